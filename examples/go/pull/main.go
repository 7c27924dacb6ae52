// Pull reads a backup of all disks of a guest into raw files: full the first time, then only what changed since.
//
//	pull URI GUEST DIRECTORY
//
// Each run makes a checkpoint at the instant of the backup; the next one reads only the ranges that changed since, by libnbd, into
// the files of the run before. "completed" is said only when everything has been read: only then is the new checkpoint kept.
package main

/*
#cgo pkg-config: libnbd
#include <stdlib.h>
#include <string.h>
#include <libnbd.h>

struct ranges { uint64_t at, *list; size_t n, max; uint64_t size; const char *context; int bitmap; };

// Collects (offset, length) of what has to be read.
static int extent (void *data, const char *context, uint64_t offset, uint32_t *entries, size_t n, int *error)
{
    struct ranges *r = data;
    if (strcmp (context, r->context) != 0)
        return 0;
    for (size_t i = 0; i + 1 < n; i += 2, r->at = offset) {
        uint64_t length = offset + entries[i] > r->size ? r->size - offset : entries[i];
        if (r->bitmap ? entries[i + 1] & 1 : !(entries[i + 1] & LIBNBD_STATE_ZERO)) {
            if (r->n + 2 > r->max) {
                r->max = r->max ? 2 * r->max : 256;
                r->list = realloc (r->list, r->max * sizeof *r->list);
                if (!r->list)
                    abort ();
            }
            r->list[r->n++] = offset;
            r->list[r->n++] = length;
        }
        offset += entries[i];
    }
    return 0;
}

static int find_ranges (struct nbd_handle *nbd, struct ranges *r)
{
    while (r->at < r->size) {
        uint64_t before = r->at, count = r->size - r->at;
        nbd_extent_callback callback = { .callback = extent, .user_data = r };
        if (nbd_block_status (nbd, count > 1 << 30 ? 1 << 30 : count, r->at, callback, 0) < 0 || r->at <= before)
            return -1;
    }
    return 0;
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"libbackup.org/go/libbackup"
)

const chunk = 2 << 20

func failure(what string) error {
	return fmt.Errorf("%s: %s", what, C.GoString(C.nbd_get_error()))
}

// changed gives pairs of offset and length.
func changed(nbd *C.struct_nbd_handle, name string, bitmap bool) ([]uint64, error) {
	r := (*C.struct_ranges)(C.calloc(1, C.sizeof_struct_ranges))
	defer C.free(unsafe.Pointer(r))
	r.size = C.uint64_t(C.nbd_get_size(nbd))
	r.context = C.CString(name)
	defer C.free(unsafe.Pointer(r.context))
	if bitmap {
		r.bitmap = 1
	}
	status := C.find_ranges(nbd, r)
	defer C.free(unsafe.Pointer(r.list))
	if status != 0 {
		return nil, failure("block status")
	}
	found := make([]uint64, int(r.n))
	for i, value := range unsafe.Slice(r.list, int(r.n)) {
		found[i] = uint64(value)
	}
	return found, nil
}

func pullDisk(disk *libbackup.JobDisk, uri, path string) error {
	name, flags := "base:allocation", os.O_WRONLY|os.O_CREATE|os.O_EXCL
	if disk.Bitmap() != "" {
		name, flags = "qemu:dirty-bitmap:"+disk.Bitmap(), os.O_WRONLY
	}
	nbd := C.nbd_create()
	defer C.nbd_close(nbd)
	cname, curi := C.CString(name), C.CString(uri)
	defer C.free(unsafe.Pointer(cname))
	defer C.free(unsafe.Pointer(curi))
	if C.nbd_add_meta_context(nbd, cname) != 0 || C.nbd_connect_uri(nbd, curi) != 0 || C.nbd_can_meta_context(nbd, cname) != 1 {
		return failure(disk.Target())
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(int64(C.nbd_get_size(nbd))); err != nil {
		return err
	}
	list, err := changed(nbd, name, disk.Bitmap() != "")
	if err != nil {
		return err
	}
	data, total := make([]byte, chunk), uint64(0)
	for i := 0; i < len(list); i += 2 {
		for at, end := list[i], list[i]+list[i+1]; at < end; {
			part := data
			if end-at < chunk {
				part = data[:end-at]
			}
			// every error counts: QEMU answers with errors when it can no longer keep the point in time
			if C.nbd_pread(nbd, unsafe.Pointer(&part[0]), C.size_t(len(part)), C.uint64_t(at), 0) != 0 {
				return failure(disk.Target())
			}
			if _, err := file.WriteAt(part, int64(at)); err != nil {
				return err
			}
			at += uint64(len(part))
			total += uint64(len(part))
		}
	}
	fmt.Printf("%s: %s, %d bytes read\n", disk.Target(), disk.Type(), total)
	return file.Sync()
}

func backup(ctx context.Context, guest *libbackup.Domain, directory string) error {
	before, err := guest.ListAllCheckpoints(ctx, libbackup.DomainCheckpointListLeaves)
	if err != nil {
		return err
	}
	since, complete := "", filepath.Join(directory, "complete")
	if _, err := os.Stat(complete); err == nil && len(before) > 0 {
		since = "<incremental>" + before[0].Name() + "</incremental>"
	}
	name := fmt.Sprintf("pull-%s-%d", time.Now().Format("20060102-150405"), os.Getpid())
	err = guest.BackupBegin(ctx, "<domainbackup mode='pull'>"+since+"<server transport='auto'/></domainbackup>",
		libbackup.Text("<domaincheckpoint><name>"+name+"</name></domaincheckpoint>"), 0)
	if err != nil {
		return err
	}
	job, err := guest.BackupInfo(ctx, nil, 0)
	if err != nil {
		return err
	}
	id := job.ID()
	if since != "" {
		err = os.Remove(complete) // until all of it is written, the files are of no instant
	}
	for i, disk := range job.Disks() {
		if err == nil {
			err = pullDisk(disk, job.GetExportURI(uint(i)), filepath.Join(directory, disk.Target()+".raw"))
		}
	}
	if err != nil {
		_, _ = guest.BackupStop(ctx, &id, libbackup.DomainBackupStopAbort)
		return err
	}
	ended, err := guest.BackupStop(ctx, &id, 0)
	if err != nil {
		return err
	}
	if ended.State() != libbackup.JobCompleted {
		return errors.New(ended.Error())
	}
	if err := os.WriteFile(complete, []byte(name+"\n"), 0o600); err != nil {
		return err
	}
	for _, checkpoint := range before {
		if err := checkpoint.Delete(ctx, 0); err != nil {
			return err
		}
	}
	fmt.Println("completed")
	return nil
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintf(os.Stderr, "usage: %s URI GUEST DIRECTORY\n", os.Args[0])
		os.Exit(2)
	}
	ctx := context.Background()
	conn, err := libbackup.Open(ctx, &os.Args[1])
	if err == nil {
		var guest *libbackup.Domain
		if guest, err = conn.LookupByName(ctx, os.Args[2]); err == nil {
			err = backup(ctx, guest, os.Args[3])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
