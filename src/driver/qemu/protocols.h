/* The stores on the network that a helper opens (helper.h): one row a protocol. Pure. */
#pragma once
#include <json-glib/json-glib.h>
#include "conf/backup_def.h"
#include "util/error.h"

typedef struct {
    StoreProtocol protocol;
    const char *driver; /* QEMU's */
    /* of blockdev-add, without driver and node-name; secret: id of the object that holds the
     * password, or NULL */
    JsonObject *(*options) (const StoreDef *store, const char *secret);
    /* FALSE: what it names cannot be opened so */
    gboolean (*check) (const StoreDef *store, GError **error);
    gboolean text_secret; /* the password is base64 already, as cephx keys are */
    gboolean proved;      /* pushed to a real server in the tests; else refused */
    gboolean reopens;     /* the node can be made read-only, which says how its flush went */
    gboolean reconnects;  /* in silence, when the server went away (helper-link.h) */
    gboolean creates; /* an image that is not there is made; FALSE: it must be there, as a LUN is */
} ProtocolRow;

/* NULL: QEMU opens it itself (nbd). */
const ProtocolRow *protocol_row (const StoreDef *store);
