module libbackup.org/go/libbackup

go 1.18
