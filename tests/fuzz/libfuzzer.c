/* The entry points that libFuzzer calls. Whatever GLib complains about is a finding. */
#include <signal.h>
#include <stdlib.h>
#include "fuzz.h"

int LLVMFuzzerInitialize (int *argc, char ***argv);
int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t length);

static void give_up (int number)
{
    abort ();
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    /* how GLib ends a program; libFuzzer saves the input on SIGABRT only */
    signal (SIGTRAP, give_up);
    g_log_set_always_fatal (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
    return 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *bytes, size_t length)
{
    fuzz_one (bytes, length);
    return 0;
}
