/* Helpers of the tests in this folder. */
#pragma once
#include <check.h>
#include <glib.h>
#include <sys/types.h>

/* Exits with 77 (skipped) and says why when one is not installed. */
void require_programs (const char *program, ...) G_GNUC_NULL_TERMINATED;
/* Runs a program that must succeed. */
void run_ok (const char *program, ...) G_GNUC_NULL_TERMINATED;
/* A program in the background, killed when its test ends. */
pid_t start_program (const char *const *argv, int inherited_fd);
void stop_program (pid_t pid);
/* Children of this process. */
guint count_children (void);
pid_t first_child (void);
/* Runs the one test case of a program; its exit status. */
int run_tcase (TCase *tcase);
/* TEST_DATA/NAME. Caller frees. */
char *data_file (const char *name);
/* Until it is there. */
void await_file (const char *path);
/* A listening unix socket at this path. */
int listen_at (const char *path);
