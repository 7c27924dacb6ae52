/* Stands in for drivers that this build leaves out; the real ones take precedence. */
#include "driver/driver.h"

static gboolean never (const char *uri)
{
    return FALSE;
}

#define ABSENT(driver, text) __attribute__ ((weak)) const DriverOps driver = { .name = text, .probe = never }
ABSENT (qemu_driver, "qemu");
ABSENT (test_driver, "test");
ABSENT (remote_driver, "remote");
