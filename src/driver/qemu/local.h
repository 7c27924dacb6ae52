/* What the qemu driver's table of calls is filled with. Each runs on the guest's thread unless it says otherwise. */
#pragma once
#include "driver/qemu/guest.h"

/* job-xml.c: the job as <domainbackup>, with what libvirt's clients expect in it. Caller frees. */
char *job_xml (Guest *guest, const bak_job *job);

/* capabilities.c */
gboolean qemu_capabilities (DriverConn *conn, const bak_none *args, bak_text_ret *ret, GError **error);

/* checkpoint.c; list, children and lookup read records only (any thread) */
gboolean local_checkpoint_create (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_xml (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_list (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_children (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_lookup (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_delete (Guest *guest, const void *args, void *ret, GError **error);
gboolean local_checkpoint_check (Guest *guest, const void *args, void *ret, GError **error);
