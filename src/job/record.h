/* Durable records of jobs, as JSON files in a guest's folder of the state directory:
 * DIR/jobs/ID.json. Written atomically; a damaged file is reported by name, never fatal to the
 * others. Shared by all drivers. */
#pragma once
#include <json-glib/json-glib.h>
#include "driver/driver.h"

enum { RECORD_KEEP_DEFAULT = 20 };

/* Eight random hex digits. Caller frees. */
char *record_new_id (void);
gboolean record_id_check (const char *id);

gboolean record_save (const char *dir, const bak_job *job, GError **error);
/* id "": the newest. BAK_ERROR_NO_JOB when there is none. */
gboolean record_load (const char *dir, const char *id, bak_job *ret_job, GError **error);
/* Newest first; damaged ones are left out and put into *ret_damaged (char*, may be NULL). Free jobs
 * with bak_job_clear and g_array. */
GArray *record_list (const char *dir, GPtrArray *damaged);
/* A begin that was refused is no backup: it is not listed, and pushes no other out of the list. */
void record_forget (const char *dir, const char *id);
void record_prune (const char *dir, guint keep);
JsonNode *record_to_json (const bak_job *job);
gboolean record_from_json (JsonNode *node, bak_job *ret_job, GError **error);
