/* Values of libvirt's protocol that more than one call carries. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "remote/table.h"

void uuid_to_text (const char *uuid, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";
    for (guint i = 0; i < RPC_UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *ret_text++ = '-';
        *ret_text++ = digits[(guchar) uuid[i] >> 4];
        *ret_text++ = digits[uuid[i] & 15];
    }
    *ret_text = '\0';
}

gboolean uuid_from_text (const char *text, char *ret_uuid)
{
    guint digits = 0;
    memset (ret_uuid, 0, RPC_UUID_SIZE);
    for (; *text && digits < 2 * RPC_UUID_SIZE; text++) {
        int value = g_ascii_xdigit_value (*text);
        if (*text == '-')
            continue;
        if (value < 0)
            break;
        ret_uuid[digits / 2] = (char) (((guchar) ret_uuid[digits / 2] << 4) | value);
        digits++;
    }
    if (digits == 2 * RPC_UUID_SIZE && *text == '\0')
        return TRUE;
    memset (ret_uuid, 0, RPC_UUID_SIZE);
    return FALSE;
}

void rpc_param_int (rpc_param *param, const char *field, int value)
{
    *param = (rpc_param){ .field = ret_string (field),
                          .value = { .kind = JOB_STAT_INT, .rpc_value_u.i = value } };
}
