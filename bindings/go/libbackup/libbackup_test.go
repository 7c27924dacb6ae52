package libbackup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const fake = "libvirt+fake:///"

var background = context.Background()

func open(t *testing.T, uri string) *Connection {
	t.Helper()
	conn, err := Open(background, Text(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func guest(t *testing.T, conn *Connection, name string) *Domain {
	t.Helper()
	domain, err := conn.LookupByName(background, name)
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

func engine(t *testing.T) (*Connection, *Domain) {
	if os.Getenv("HAVE_QEMU") == "" {
		t.Skip("no qemu-storage-daemon")
	}
	conn := open(t, "test:///default")
	return conn, guest(t, conn, "test")
}

func push(folder string) string {
	disks := ""
	for _, name := range []string{"vda", "vdb"} {
		disks += fmt.Sprintf("<disk name='%s' type='file'><target file='%s'/></disk>", name, filepath.Join(folder, name+".qcow2"))
	}
	return "<domainbackup><disks>" + disks + "</disks></domainbackup>"
}

const pull = "<domainbackup mode='pull'><server transport='auto'/></domainbackup>"

func TestListsAndGetters(t *testing.T) {
	conn := open(t, fake)
	domain := guest(t, conn, "web")
	disks, err := domain.ListDisks(background, 0)
	if err != nil || len(disks) != 2 || disks[1].Target() != "vdb" || strings.Join(disks[1].Names(), " ") != "vdb disk1" {
		t.Fatal(disks, err)
	}
	if domain.ID() != 3 || conn.IsReadOnly() || domain.Connection().IsReadOnly() {
		t.Error(domain.ID())
	}
	jobs, err := domain.BackupList(background, 0)
	if err != nil || len(jobs) != 2 || jobs[0].Disks()[1].Target() != "vdb" {
		t.Fatal(jobs, err)
	}
}

func TestErrorsAreToldApartByCode(t *testing.T) {
	conn := open(t, fake)
	_, err := conn.LookupByName(background, "nosuch")
	if !errors.Is(err, ErrorNoDomain) || errors.Is(err, ErrorNoDisk) || !strings.Contains(err.Error(), "nosuch") {
		t.Error(err)
	}
	var full *Error
	if !errors.As(err, &full) || full.Code != ErrorNoDomain || full.Code.Error() != "no-domain" {
		t.Error(full)
	}
	if err := guest(t, conn, "web").BackupBegin(background, "<domainbackup/>", nil, 0x100); !errors.Is(err, ErrorInvalidArgument) {
		t.Error(err)
	}
	if _, err := conn.LookupByName(background, "web\x00x"); !errors.Is(err, ErrorInvalidArgument) || !strings.Contains(err.Error(), "NUL") {
		t.Error(err)
	}
	conn.Close()
	if _, err := conn.LookupByName(background, "web"); !errors.Is(err, ErrorInvalidArgument) || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
	conn.Close()
}

func TestOptions(t *testing.T) {
	conn := open(t, fake)
	domain := guest(t, conn, "web")
	job, err := domain.BackupBeginOptions(background, &BackupOptions{BackupXML: "<domainbackup/>"})
	if err != nil || job != "0a1b2c3d" {
		t.Error(job, err)
	}
	if _, err := domain.BackupBeginOptions(background, nil); err == nil {
		t.Error("options without a size were taken")
	}
	if _, err := conn.Attach(background, &AttachOptions{Name: "web", QMP: Text("/q"), Disks: []NamedDisk{{"vda", "a"}, {"vdb", "b"}}}); err != nil {
		t.Error(err)
	}
}

func TestManyGoroutinesAndAClose(t *testing.T) {
	conn := open(t, fake)
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := 0; n < 200; n++ {
				domain, err := conn.LookupByName(background, "web")
				if err != nil {
					if !strings.Contains(err.Error(), "closed") {
						t.Error(err)
					}
					return
				}
				if disks, err := domain.ListDisks(background, 0); err != nil || disks[0].Target() != "vda" {
					t.Error(err)
				}
			}
		}()
	}
	runtime.GC()
	conn.Close()
	all.Wait()
}

func TestAContextEndsTheWait(t *testing.T) {
	_, domain := engine(t)
	if err := domain.BackupBegin(background, pull, nil, 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background)
	given := make(chan error)
	go func() {
		_, err := domain.BackupWait(ctx, nil, uint64(time.Hour/time.Microsecond))
		given <- err
	}()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrorAborted) {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(background, time.Millisecond)
	defer cancel()
	if _, err := domain.BackupWait(short, nil, uint64(time.Hour/time.Microsecond)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrorTimeout) {
		t.Error(err)
	}
	job, err := domain.BackupStop(background, nil, 0)
	if err != nil || job.State() != JobCompleted {
		t.Error(job, err)
	}
}

func TestAPushIsFollowedByEvents(t *testing.T) {
	conn, domain := engine(t)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	events, err := conn.Events(ctx, domain, DomainEventIDAny)
	if err != nil {
		t.Fatal(err)
	}
	if err := domain.BackupBegin(background, push(t.TempDir()), nil, 0); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for event := range events {
		seen++
		if event.DomainName != "test" {
			t.Error(event)
		}
		if event.ID == DomainEventIDJobCompleted {
			if JobState(event.State) != JobCompleted {
				t.Error(event)
			}
			cancel()
			break
		}
	}
	for range events {
	}
	if seen < 4 {
		t.Error("only", seen, "events")
	}
	stats, err := domain.GetJobStats(background, DomainJobStatsCompleted)
	if err != nil || stats.Type != DomainJobCompleted || stats.Params["success"] != true || stats.Params["disk_total"] != uint64(32<<20) {
		t.Error(stats, err)
	}
	info, err := domain.GetBlockInfo(background, "vda", 0)
	if err != nil || info.Capacity != 16<<20 {
		t.Error(info, err)
	}
	state, reason, err := domain.GetState(background, 0)
	if err != nil || DomainState(state) != DomainRunning || reason != 0 {
		t.Error(state, reason, err)
	}
}

func TestTheLogGoesWhereItIsWanted(t *testing.T) {
	domain := guest(t, open(t, fake), "web")
	said := make(chan string, 8)
	LogSetCallback(LogDebug, func(level LogLevel, message string) { said <- fmt.Sprint(level == LogDebug, " ", message) })
	if _, err := domain.ListDisks(background, 0); err != nil {
		t.Error(err)
	}
	LogSetCallback(LogDebug, nil)
	if _, err := domain.ListDisks(background, 0); err != nil {
		t.Error(err)
	}
	if first := <-said; first != "true call domain_disks on libvirt+fake:///" || len(said) != 0 {
		t.Error(first, len(said))
	}
}

func TestCallbacksAreLetGo(t *testing.T) {
	conn := open(t, fake)
	for i := 0; i < 100; i++ {
		number, err := conn.DomainEventRegisterAny(background, nil, int(DomainEventIDAny), func(*Connection, *Domain, Event) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.DomainEventDeregisterAny(background, number); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.DomainEventDeregisterAny(background, 1); !errors.Is(err, ErrorInvalidArgument) {
		t.Error(err)
	}
}
