// Follow tells what a guest's backups do until one has ended; a daemon that is restarted meanwhile is waited for.
//
//	follow URI GUEST
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"libbackup.org/go/libbackup"
)

// ended says how the newest job ended; what happened while the daemon was away is not told, so it is asked.
func ended(ctx context.Context, guest *libbackup.Domain) (libbackup.JobState, bool, error) {
	job, err := guest.BackupInfo(ctx, nil, 0)
	if errors.Is(err, libbackup.ErrorNoJob) || errors.Is(err, libbackup.ErrorConnection) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	}
	return job.State(), job.HasEnded(), nil
}

func follow(ctx context.Context, uri, name string) (libbackup.JobState, error) {
	conn, err := libbackup.Open(ctx, &uri)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	guest, err := conn.LookupByName(ctx, name)
	if err != nil {
		return 0, err
	}
	events, err := conn.Events(ctx, guest, libbackup.DomainEventIDAny)
	if err != nil {
		return 0, err
	}
	fmt.Println("following")
	for event := range events {
		switch event.ID {
		case libbackup.DomainEventIDProgress:
			if event.Disk == "" {
				fmt.Printf("%d of %d bytes\n", event.Bytes, event.Total)
			}
		case libbackup.DomainEventIDWarning:
			fmt.Println("warning:", event.Text)
		case libbackup.DomainEventIDConnection:
			fmt.Println(event.Text)
			if libbackup.ConnectionState(event.State) != libbackup.ConnectionLost {
				if state, over, err := ended(ctx, guest); err != nil || over {
					return state, err
				}
			}
		case libbackup.DomainEventIDJobState:
			fmt.Println(libbackup.JobStateToString(libbackup.JobState(event.State)))
		case libbackup.DomainEventIDJobCompleted:
			return libbackup.JobState(event.State), nil
		}
	}
	return 0, ctx.Err()
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintf(os.Stderr, "usage: %s URI GUEST\n", os.Args[0])
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	state, err := follow(ctx, os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s: %s\n", os.Args[2], libbackup.JobStateToString(state))
	if state != libbackup.JobCompleted {
		os.Exit(1)
	}
}
