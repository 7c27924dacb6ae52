/* Packets and payloads byte for byte, without a socket. The vectors were recorded between libvirt's
 * own client and daemon. */
#include <check.h>
#include <rpc/rpc.h>
#include <stdlib.h>
#include <string.h>
#include "driver/driver.h"
#include "remote/address.h"
#include "remote/codec.h"
#include "remote/error-map.h"
#include "remote/frame.h"
#include "remote/peer.h"
#include "remote/table.h"

#define UUID "11111111222233334444555555555555"
#define DOMAIN                                                                                     \
    "00000001"                                                                                     \
    "78000000" UUID "00000002"

static GByteArray *unhex (const char *text)
{
    GByteArray *bytes = g_byte_array_new ();
    for (; *text; text += 2) {
        guint8 byte = g_ascii_xdigit_value (text[0]) << 4 | g_ascii_xdigit_value (text[1]);
        g_byte_array_append (bytes, &byte, 1);
    }
    return bytes;
}

static char *hex (const GByteArray *bytes)
{
    GString *text = g_string_new (NULL);
    for (guint i = 0; i < bytes->len; i++)
        g_string_append_printf (text, "%02x", bytes->data[i]);
    return g_string_free (text, FALSE);
}

/* Packets */

START_TEST (a_keepalive_ping_is_the_recorded_28_bytes)
{
    const FrameHeader ping = { .program = PROGRAM_KEEPALIVE,
                               .version = 1,
                               .procedure = KEEPALIVE_PING,
                               .type = FRAME_MESSAGE };
    GByteArray *packet = g_byte_array_new ();
    g_byte_array_set_size (packet, FRAME_HEADER_SIZE);
    frame_pack (&ping, 0, packet->data);
    g_autofree char *text = hex (packet);
    ck_assert_str_eq (text, "0000001c"
                            "6b656570"
                            "00000001"
                            "00000001"
                            "00000002"
                            "00000000"
                            "00000000");
    FrameHeader back;
    frame_unpack (packet->data, &back);
    ck_assert_int_eq (memcmp (&back, &ping, sizeof ping), 0);
    g_byte_array_unref (packet);
}
END_TEST

/* Three packets with payloads of 0, 5 and 8 bytes, fed in pieces of _i bytes. */
START_TEST (packets_come_out_whole_however_the_bytes_come_in)
{
    static const gsize sizes[] = { 0, 5, 8 };
    g_autoptr (GByteArray) stream = g_byte_array_new ();
    for (guint i = 0; i < G_N_ELEMENTS (sizes); i++) {
        guint8 packet[FRAME_HEADER_SIZE + 8];
        FrameHeader header = {
            .program = PROGRAM_LIBVIRT, .version = 1, .procedure = 100 + i, .serial = i
        };
        frame_pack (&header, sizes[i], packet);
        memset (packet + FRAME_HEADER_SIZE, 'a' + i, sizes[i]);
        g_byte_array_append (stream, packet, FRAME_HEADER_SIZE + sizes[i]);
    }
    Splitter splitter;
    FrameHeader header;
    const guint8 *payload;
    gsize length;
    guint seen = 0;
    splitter_init (&splitter, FRAME_MAX);
    for (gsize at = 0; at < stream->len; at += _i) {
        splitter_feed (&splitter, stream->data + at, MIN ((gsize) _i, stream->len - at));
        while (splitter_next (&splitter, &header, &payload, &length) == SPLIT_PACKET) {
            ck_assert_uint_eq (length, sizes[seen]);
            ck_assert_int_eq (header.procedure, 100 + seen);
            for (gsize k = 0; k < length; k++)
                ck_assert_int_eq (payload[k], 'a' + seen);
            seen++;
        }
    }
    ck_assert_uint_eq (seen, G_N_ELEMENTS (sizes));
    ck_assert_ptr_null (splitter.data); /* an idle peer holds no buffer */
    splitter_clear (&splitter);
}
END_TEST

static const struct {
    guint32 length;
    SplitResult result;
} lengths[] = {
    { 0, SPLIT_BAD },        { 3, SPLIT_BAD },          { 4, SPLIT_BAD },
    { 27, SPLIT_BAD },       { 28, SPLIT_MORE },        { 33554436, SPLIT_MORE },
    { 33554437, SPLIT_BAD }, { 0xffffffff, SPLIT_BAD },
};

START_TEST (a_length_that_libvirt_would_not_take_is_bad)
{
    Splitter splitter;
    FrameHeader header;
    const guint8 *payload;
    gsize length;
    guint32 word = GUINT32_TO_BE (lengths[_i].length);
    splitter_init (&splitter, FRAME_MAX);
    splitter_feed (&splitter, (guint8 *) &word, 4);
    ck_assert_int_eq (splitter_next (&splitter, &header, &payload, &length), lengths[_i].result);
    splitter_clear (&splitter);
}
END_TEST

/* Payloads: decoded and encoded again they are the same bytes */

static const struct {
    gint32 procedure;
    gboolean reply;
    const char *bytes;
} recorded[] = {
    { 23, TRUE, DOMAIN },
    { 66, TRUE,
      "00000001"
      "00000000" },
    { 60, FALSE, "0000000e" },
    { 60, TRUE, "00000001" },
    { 1, FALSE,
      "00000001"
      "0000000e"
      "71656d753a2f2f2f73797374656d0000"
      "00000000" },
    { 273, FALSE,
      "00000001"
      "00000003" },
    { 316, FALSE,
      "00000000"
      "00000000" },
    { 316, TRUE, "00000039" },
    { 298, TRUE,
      "00000000"
      "00000000" },
    { 413, FALSE,
      DOMAIN "00000001"
             "00000000" },
    { 412, FALSE,
      "00000003"
      "63703100" DOMAIN "00000004" },
};

static const Procedure *row_of (gint32 number)
{
    const Procedure *row = program_libvirt.find (number);
    ck_assert_ptr_nonnull (row);
    return row;
}

START_TEST (recorded_payloads_go_through_the_codec_unchanged)
{
    const Procedure *row = row_of (recorded[_i].procedure);
    CodecFunc codec = recorded[_i].reply ? row->ret_codec : row->args_codec;
    gsize size = recorded[_i].reply ? row->ret_size : row->args_size;
    g_autofree void *data = g_malloc0 (size);
    g_autoptr (GByteArray) bytes = unhex (recorded[_i].bytes), again = g_byte_array_new ();
    g_autoptr (GError) error = NULL;
    codec_decode (codec, bytes->data, bytes->len, data, size, &error);
    g_assert_no_error (error);
    ck_assert (codec_encode (codec, data, again, 65536, &error));
    g_autofree char *text = hex (again);
    ck_assert_str_eq (text, recorded[_i].bytes);
    codec_clear (codec, data, size);
}
END_TEST

START_TEST (an_open_from_a_client_with_another_idea_of_true_is_understood)
{
    rpc_open_args args = { 0 };
    g_autoptr (GByteArray) bytes = unhex ("01000000"
                                          "0000000e"
                                          "71656d753a2f2f2f73797374656d0000"
                                          "00000006"
                                          "ffffffff");
    const Procedure *row = row_of (1);
    ck_assert (codec_decode (row->args_codec, bytes->data, bytes->len, &args, sizeof args, NULL));
    ck_assert_str_eq (*args.uri, "qemu:///system");
    ck_assert_uint_eq (args.flags, 6);
    codec_clear (row->args_codec, &args, sizeof args);
}
END_TEST

/* Arguments of call 23: one string */
static const struct {
    const char *bytes;
    BakErrorCode code;
} strings[] = {
    { "00000001"
      "78000000",
      BAK_ERROR_NONE },
    { "00000001"
      "78ffffff",
      BAK_ERROR_NONE }, /* padding is not looked at */
    { "00000001"
      "78000000"
      "00000000",
      BAK_ERROR_NONE }, /* nor what comes after */
    { "00000000", BAK_ERROR_NONE },
    { "00000002"
      "c3a40000",
      BAK_ERROR_NONE },
    { "00000003"
      "78007900",
      BAK_ERROR_INVALID_ARGUMENT }, /* NUL */
    { "00000002"
      "c3280000",
      BAK_ERROR_INVALID_ARGUMENT }, /* not UTF-8 */
    { "00000005"
      "78000000",
      BAK_ERROR_CONNECTION }, /* longer than what came */
    { "00400001"
      "78000000",
      BAK_ERROR_CONNECTION }, /* longer than 4 MiB */
    { "ffffffff"
      "78000000",
      BAK_ERROR_CONNECTION },
    { "000000", BAK_ERROR_CONNECTION },
    { "", BAK_ERROR_CONNECTION },
};

START_TEST (a_text_is_taken_or_refused)
{
    rpc_string args = { 0 };
    g_autoptr (GByteArray) bytes = unhex (strings[_i].bytes);
    g_autoptr (GError) error = NULL;
    const Procedure *row = row_of (23);
    gboolean ok =
        codec_decode (row->args_codec, bytes->data, bytes->len, &args, sizeof args, &error);
    ck_assert_int_eq (error_code (error), strings[_i].code);
    ck_assert_int_eq (ok, strings[_i].code == BAK_ERROR_NONE);
    ck_assert (ok || args.text == NULL);
    codec_clear (row->args_codec, &args, sizeof args);
}
END_TEST

START_TEST (every_row_refuses_an_empty_payload_or_needs_none)
{
    for (guint i = 0; i < program_libvirt.count; i++) {
        const Procedure *row = &program_libvirt.rows[i];
        ck_assert (i == 0 || row->number > program_libvirt.rows[i - 1].number);
        ck_assert_ptr_eq (program_libvirt.find (row->number), row);
        if (!row->args_codec)
            continue;
        g_autofree void *args = g_malloc0 (row->args_size);
        ck_assert_msg (!codec_decode (row->args_codec, NULL, 0, args, row->args_size, NULL), "%s",
                       row->name);
    }
    ck_assert_ptr_null (program_libvirt.find (0));
    ck_assert_ptr_null (program_libvirt.find (318));
    ck_assert_ptr_null (program_libvirt.find (-1));
}
END_TEST

START_TEST (what_is_too_long_is_not_encoded)
{
    g_autofree char *name = g_strnfill (BAK_NAME_MAX + _i, 'n');
    bak_domain_arg arg = { .domain = name };
    g_autoptr (GByteArray) out = g_byte_array_new ();
    g_byte_array_append (out, (const guint8 *) "head", 4);
    ck_assert_int_eq (
        codec_encode (call_rows[CALL_ID_domain_state].args_codec, &arg, out, 65536, NULL), _i == 0);
    ck_assert_uint_eq (out->len, _i == 0 ? 4 + 4 + BAK_NAME_MAX + 4 : 4);
}
END_TEST

/* Errors */

START_TEST (every_code_of_ours_crosses_our_program_as_it_is)
{
    g_autoptr (GError) error = g_error_new (BAK_ERROR, _i, "disk 'vdä':\nreason"), back = NULL;
    rpc_error wire;
    rpc_error_from (error, PROGRAM_BACKUP, &wire);
    rpc_error_to (&wire, &back);
    ck_assert_int_eq (back->code, _i);
    ck_assert_str_eq (back->message, error->message);
    codec_clear (rpc_error_codec, &wire, sizeof wire);
}
END_TEST

static const struct {
    BakErrorCode ours;
    int theirs, from;
    const char *text;
} shown[] = {
    { BAK_ERROR_NO_DOMAIN, 42, 10, "Domain not found: why" },
    { BAK_ERROR_NO_CHECKPOINT, 103, 69, "Domain checkpoint not found: why" },
    { BAK_ERROR_NO_JOB, 104, 10, "Domain backup job id not found: why" },
    { BAK_ERROR_BUSY, 55, 10, "Requested operation is not valid: why" },
    { BAK_ERROR_INVALID_ARGUMENT, 8, 10, "invalid argument: why" },
    { BAK_ERROR_XML, 27, 20, "XML error: why" },
    { BAK_ERROR_INEXACT, 109, 69, "checkpoint inconsistent: why" },
    { BAK_ERROR_TIMEOUT, 68, 10, "Timed out during operation: why" },
    { BAK_ERROR_MONITOR, 1, 10, "internal error: why" },
    { BAK_ERROR_NO_SPACE, 38, 10, "why" },
    { BAK_ERROR_AGENT, 86, 10, "Guest agent is not responding: why" },
    { BAK_ERROR_MONITOR_HELD, 87, 10, "resource busy: why" },
    { BAK_ERROR_ACCESS_DENIED, 88, 10, "access denied: why" },
};

START_TEST (libvirts_clients_get_the_codes_they_act_on)
{
    g_autoptr (GError) error = g_error_new (BAK_ERROR, shown[_i].ours, "why");
    rpc_error wire;
    rpc_error_from (error, PROGRAM_LIBVIRT, &wire);
    ck_assert_int_eq (wire.code, shown[_i].theirs);
    ck_assert_int_eq (wire.domain, shown[_i].from);
    ck_assert_int_eq (wire.level, 2);
    ck_assert_str_eq (*wire.message, shown[_i].text);
    ck_assert_int_eq (wire.int1, -1);
    codec_clear (rpc_error_codec, &wire, sizeof wire);
}
END_TEST

START_TEST (a_long_or_broken_text_does_not_break_the_reply)
{
    g_autofree char *text = _i ? g_strdup ("bytes \xff\xfe") : g_strnfill (5 * 1024 * 1024, 'x');
    g_autoptr (GError) error = g_error_new_literal (BAK_ERROR, BAK_ERROR_IO, text);
    g_autoptr (GByteArray) out = g_byte_array_new ();
    rpc_error wire;
    rpc_error_from (error, PROGRAM_LIBVIRT, &wire);
    ck_assert (codec_encode (rpc_error_codec, &wire, out, 65536, NULL));
    ck_assert (g_utf8_validate (*wire.message, -1, NULL));
    ck_assert_uint_le (strlen (*wire.message), ERROR_TEXT_MAX);
    codec_clear (rpc_error_codec, &wire, sizeof wire);
}
END_TEST

START_TEST (the_recorded_error_of_libvirtd_is_read)
{
    static const char bytes[] =
        "00000068"
        "0000000a"
        "00000001"
        "0000003c"
        "446f6d61696e206261636b7570206a6f62206964206e6f7420666f756e643a206e6f20646f6d61696e20626163"
        "6b7570206a6f622070726573656e74"
        "00000002"
        "00000000"
        "00000001"
        "00000022"
        "446f6d61696e206261636b7570206a6f62206964206e6f7420666f756e643a2025730000"
        "00000001"
        "0000001c"
        "6e6f20646f6d61696e206261636b7570206a6f622070726573656e74"
        "00000000"
        "ffffffff"
        "ffffffff"
        "00000000";
    g_autoptr (GByteArray) raw = unhex (bytes), again = g_byte_array_new ();
    g_autoptr (GError) error = NULL, ours = NULL;
    rpc_error wire = { 0 }, made;
    ck_assert (codec_decode (rpc_error_codec, raw->data, raw->len, &wire, sizeof wire, NULL));
    rpc_error_to (&wire, &error);
    ck_assert_int_eq (error_code (error), BAK_ERROR_NO_JOB);
    /* And ours for the same situation is the same, byte for byte. */
    ours = g_error_new (BAK_ERROR, BAK_ERROR_NO_JOB, "no domain backup job present");
    rpc_error_from (ours, PROGRAM_LIBVIRT, &made);
    ck_assert (codec_encode (rpc_error_codec, &made, again, 65536, NULL));
    g_autofree char *text = hex (again);
    ck_assert_str_eq (text, bytes);
    codec_clear (rpc_error_codec, &wire, sizeof wire);
    codec_clear (rpc_error_codec, &made, sizeof made);
}
END_TEST

/* Addresses */

static const struct {
    const char *uri;
    AddressKind kind;
    const char *socket, *host, *user;
    int port;
} uris[] = {
    { "qemu+unix:///system?socket=/a%20b", ADDRESS_UNIX, "/a b", NULL, NULL, -1 },
    { "qemu+unix:///system", ADDRESS_UNIX, "/run/libbackup/libbackup.sock", NULL, NULL, -1 },
    { "bak:///system?socket=/s", ADDRESS_UNIX, "/s", NULL, NULL, -1 },
    { "qemu+ssh://root@host:22/system", ADDRESS_SSH, NULL, "host", "root", 22 },
    { "qemu+ssh://host/session?socket=/s", ADDRESS_SSH, "/s", "host", NULL, -1 },
    { "qemu+tls://host/system?pkipath=/p", ADDRESS_TLS, NULL, "host", NULL, -1 },
    { "qemu+tls://[::1]:1/", ADDRESS_TLS, NULL, "::1", NULL, 1 },
};

START_TEST (an_address_is_read)
{
    g_autoptr (GError) error = NULL;
    g_autoptr (Address) address = address_parse (uris[_i].uri, &error);
    g_assert_no_error (error);
    ck_assert (address_is_ours (uris[_i].uri));
    ck_assert_int_eq (address->kind, uris[_i].kind);
    ck_assert_pstr_eq (address->socket, uris[_i].socket);
    ck_assert_pstr_eq (address->host, uris[_i].host);
    ck_assert_pstr_eq (address->user, uris[_i].user);
    ck_assert_int_eq (address->port, uris[_i].port);
}
END_TEST

static const char *const bad_uris[] = {
    "qemu+ssh:///system",
    "qemu+ssh://-oProxyCommand=x/system",
    "qemu+ssh://-x@host/system",
    "qemu+unix://host/system?socket=/s",
    "qemu+unix:///other?socket=/s",
    "qemu+unix:///system?socket=relative",
    "qemu+unix:///system?sockets=/s",
    "qemu+tls:///system",
    "qemu+tls://host/system?socket=/s",
    "qemu+ssh://a%20b/system",
    "qemu+ssh://a%24(x)/system",
    "qemu+unix:///system?socket=%zz",
};

START_TEST (a_wrong_address_is_refused)
{
    g_autoptr (GError) error = NULL;
    ck_assert_msg (address_parse (bad_uris[_i], &error) == NULL, "%s", bad_uris[_i]);
    ck_assert_int_eq (error_code (error), BAK_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST (a_uuid_goes_to_text_and_back)
{
    char raw[RPC_UUID_SIZE], text[37];
    ck_assert (uuid_from_text ("11111111-2222-3333-4444-5555555555fe", raw));
    uuid_to_text (raw, text);
    ck_assert_str_eq (text, "11111111-2222-3333-4444-5555555555fe");
    ck_assert (!uuid_from_text ("11111111-2222-3333-4444-5555555555f", raw));
    ck_assert (!uuid_from_text ("11111111-2222-3333-4444-5555555555fee", raw));
    ck_assert (!uuid_from_text ("x", raw));
    uuid_to_text (raw, text);
    ck_assert_str_eq (text, "00000000-0000-0000-0000-000000000000");
}
END_TEST

int main (void)
{
    Suite *suite = suite_create ("wire");
    TCase *tcase = tcase_create ("bytes");
    tcase_add_test (tcase, a_keepalive_ping_is_the_recorded_28_bytes);
    tcase_add_loop_test (tcase, packets_come_out_whole_however_the_bytes_come_in, 1, 100);
    tcase_add_loop_test (tcase, a_length_that_libvirt_would_not_take_is_bad, 0,
                         G_N_ELEMENTS (lengths));
    tcase_add_loop_test (tcase, recorded_payloads_go_through_the_codec_unchanged, 0,
                         G_N_ELEMENTS (recorded));
    tcase_add_test (tcase, an_open_from_a_client_with_another_idea_of_true_is_understood);
    tcase_add_loop_test (tcase, a_text_is_taken_or_refused, 0, G_N_ELEMENTS (strings));
    tcase_add_test (tcase, every_row_refuses_an_empty_payload_or_needs_none);
    tcase_add_loop_test (tcase, what_is_too_long_is_not_encoded, 0, 2);
    tcase_add_loop_test (tcase, every_code_of_ours_crosses_our_program_as_it_is, 1,
                         BAK_ERROR_MONITOR_HELD + 1);
    tcase_add_loop_test (tcase, libvirts_clients_get_the_codes_they_act_on, 0,
                         G_N_ELEMENTS (shown));
    tcase_add_loop_test (tcase, a_long_or_broken_text_does_not_break_the_reply, 0, 2);
    tcase_add_test (tcase, the_recorded_error_of_libvirtd_is_read);
    tcase_add_loop_test (tcase, an_address_is_read, 0, G_N_ELEMENTS (uris));
    tcase_add_loop_test (tcase, a_wrong_address_is_refused, 0, G_N_ELEMENTS (bad_uris));
    tcase_add_test (tcase, a_uuid_goes_to_text_and_back);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_run_all (runner, CK_ENV);
    int failed = srunner_ntests_failed (runner);
    srunner_free (runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
