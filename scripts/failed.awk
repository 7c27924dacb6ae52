# From the log of scripts/check: each line that names a failed test, with the end of what is indented below it.
# -v failures=REGEX

function tell () {
    for (i = n > 12 ? n - 12 : 0; i < n; i++)
        print why[i]
    n = 0
}

$0 ~ failures { tell(); print; below = 1; next }
below && /^     / { why[n++] = substr($0, 1, 400); next }
{ tell(); below = 0 }
END { tell() }
