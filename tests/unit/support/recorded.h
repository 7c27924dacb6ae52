/* What was recorded of QEMUs, from tests/data/qemu (see record.py there). A missing file ends the
 * test. */
#pragma once
#include "driver/qemu/graph.h"

/* "2.7" (written by hand), "5.2", "7.2", "10.0", "11.1"; NULL at the end. */
extern const char *const recorded_versions[];

JsonNode *recorded_schema (const char *version);
JsonNode *recorded_daemon_schema (const char *version); /* of qemu-storage-daemon; not for "2.7" */
Caps *recorded_caps (const char *version);
Caps *recorded_daemon_caps (const char *version);
/* which: "guest", "busy", "qsd"; the object whose members are named as in GraphAnswers. */
JsonNode *recorded_answers (const char *version, const char *which);
/* Borrows from answers. */
void recorded_fill (JsonNode *answers, GraphAnswers *ret_answers);
Graph *recorded_graph (const char *version, const char *which, GPtrArray *disks);
