#!/bin/sh
# Each public header compiles alone: as C99 without extensions, with clang, and as C++; each example as C and as C++17.
set -e
include=$1/include
cc=${CC:-cc}
compilers="$cc"
command -v clang >/dev/null && compilers="$compilers clang"
for header in "$include"/libbackup/*.h; do
    name=libbackup/$(basename "$header")
    for compiler in $compilers; do
        echo "#include <$name>
int unused (void); int unused (void) { return 0; }" | $compiler -x c -std=c99 -pedantic-errors -Wall -Wextra -Werror -Wstrict-prototypes -I"$include" -fsyntax-only -
    done
    echo "#include <$name>" | c++ -x c++ -std=c++11 -pedantic-errors -Wall -Wextra -Werror -I"$include" -fsyntax-only -
done
# And a C++ program may hold the handles and compare the constants.
echo '#include <libbackup/libbackup.h>
int main () { BakError *error = nullptr; BakConnection *conn = bak_connection_open (nullptr, &error); return conn == nullptr && bak_error_get_code (error) == BAK_ERROR_NONE; }' |
    c++ -x c++ -std=c++11 -Wall -Werror -I"$include" -fsyntax-only -

# The examples are C and C++17: who writes C++ copies from them.
for example in "$1"/examples/*.c; do
    case $example in */pull.c) printf '#include <libnbd.h>\n' | c++ -x c++ -fsyntax-only - 2>/dev/null || continue ;; esac
    $cc -std=gnu11 -Wall -Wextra -Werror -I"$include" -fsyntax-only "$example"
    c++ -x c++ -std=c++17 -pedantic-errors -Wall -Wextra -Werror -I"$include" -fsyntax-only "$example"
done
