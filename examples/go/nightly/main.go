// Nightly pushes a backup of every guest that is running, several at a time, and says what became of each.
//
//	nightly URI DIRECTORY
//
// Each guest gets a folder of the night. The exit status is 0 when all are good, 6 when some failed, 3 when all did. Ctrl-C ends
// the waits, not the backups.
package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"libbackup.org/go/libbackup"
)

const (
	atOnce   = 4
	patience = uint64(6 * time.Hour / time.Microsecond)
)

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text))
	return b.String()
}

// request has a target for each disk that a backup takes by itself.
func request(ctx context.Context, guest *libbackup.Domain, folder string) (string, error) {
	disks, err := guest.ListDisks(ctx, 0)
	rows := ""
	for _, disk := range disks {
		if disk.Flags()&libbackup.DiskSelected != 0 {
			rows += fmt.Sprintf("<disk name=\"%s\" type='file'><target file=\"%s\"/></disk>", escaped(disk.Target()),
				escaped(filepath.Join(folder, disk.Target()+".qcow2")))
		}
	}
	return "<domainbackup><disks>" + rows + "</disks></domainbackup>", err
}

func backUp(ctx context.Context, guest *libbackup.Domain, folder string) (*libbackup.Job, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	text, err := request(ctx, guest, folder)
	if err != nil {
		return nil, err
	}
	id, err := guest.BackupBeginOptions(ctx, &libbackup.BackupOptions{BackupXML: text, Timeout: patience})
	if err != nil {
		return nil, err
	}
	return guest.BackupWait(ctx, &id, patience)
}

func run(ctx context.Context, uri, directory string) int {
	conn, err := libbackup.Open(ctx, &uri)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	defer conn.Close()
	guests, err := conn.ListAllDomains(ctx, libbackup.ConnectListDomainsActive)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	night := filepath.Join(directory, time.Now().Format("2006-01-02T150405"))
	places, good := make(chan struct{}, atOnce), 0
	var lock sync.Mutex
	var all sync.WaitGroup
	for _, guest := range guests {
		guest := guest
		all.Add(1)
		places <- struct{}{}
		go func() {
			defer func() { <-places; all.Done() }()
			job, err := backUp(ctx, guest, filepath.Join(night, guest.Name()))
			lock.Lock()
			defer lock.Unlock()
			switch {
			case err != nil:
				fmt.Printf("%s: %v\n", guest.Name(), err)
			case job.State() == libbackup.JobCompleted:
				good++
				fmt.Printf("%s: completed: %d bytes\n", guest.Name(), job.Bytes())
			default:
				fmt.Printf("%s: %s: %s\n", guest.Name(), libbackup.JobStateToString(job.State()), job.Error())
			}
		}()
	}
	all.Wait()
	fmt.Printf("%d of %d guests are backed up in %s\n", good, len(guests), night)
	if good == len(guests) {
		return 0
	} else if good > 0 {
		return 6
	}
	return 3
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintf(os.Stderr, "usage: %s URI DIRECTORY\n", os.Args[0])
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1], os.Args[2]))
}
