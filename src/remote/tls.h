/* TLS with certificates on both sides, as libvirt's transport has it: after the handshake, and
 * after the server has judged the client's certificate, the server sends one byte 0x01. */
#pragma once
#include <gio/gio.h>
#include "remote/server.h"

enum { TLS_TIMEOUT_SECONDS = 30 };

/* tls-client.c: the certificates of a role ("client", "server"). */
char *tls_dir (const char *dir, GError **error); /* dir, or that of the configuration */
GTlsCertificate *tls_load_pair (const char *dir, const char *role, GError **error);
GTlsDatabase *tls_load_ca (const char *dir, GError **error);
/* Client. dir holds cacert.pem, clientcert.pem, clientkey.pem, or ca-cert.pem and so on (NULL:
 * tls_x509_dir of the configuration). Blocks, at most 30 s. */
GIOStream *tls_connect (const char *host, int port, const char *dir, GError **error);

/* Server: listens on ADDRESS:PORT ([v6]:PORT too), judges clients by their certificate and gives
 * them to the server. Who gets in: a subject that fits allowed (patterns, separated by ';'; NULL:
 * any) and that a line of the policy knows. */
typedef struct _TlsListener TlsListener;
TlsListener *tls_listen (Server *server, const char *address, const char *dir, const char *allowed,
                         GError **error);
/* Reads the certificates again; on FALSE the old ones stay. */
gboolean tls_listener_reload (TlsListener *listener, const char *dir, const char *allowed,
                              GError **error);
void tls_listener_free (TlsListener *listener); /* NULL is accepted */
/* Could it listen there with the configured certificates? */
gboolean tls_check (const char *address, GError **error);
/* Splits ADDRESS:PORT; ADDRESS empty: all. */
gboolean tls_parse_address (const char *text, GSocketAddress **ret, GError **error);
