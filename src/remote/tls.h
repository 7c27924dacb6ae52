/* TLS with certificates on both sides, as libvirt's transport has it: after the handshake, and after the server has
 * judged the client's certificate, the server sends one byte 0x01. */
#pragma once
#include <gio/gio.h>
#include "util/error.h"

/* Client. dir holds cacert.pem, clientcert.pem, clientkey.pem (NULL: tls_x509_dir of the configuration). Blocks, at most 30 s. */
GIOStream *tls_connect (const char *host, int port, const char *dir, GError **error);
