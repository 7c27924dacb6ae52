# Completion of baksh in fish. The shell itself knows its commands, options and names, so it is asked.
function __baksh_complete
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    set -l globals
    while set -q words[1]; and string match -q -- '-*' $words[1]
        set -a globals $words[1]
        if contains -- $words[1] -c --connect
            set -q words[2]; or return
            set -a globals $words[2]
            set -e words[1]
        end
        set -e words[1]
    end
    $program $globals --complete $words (commandline -ct) 2> /dev/null
end
complete -c baksh -f -a '(__baksh_complete)'
complete -c baksh -n 'test -z "$(__baksh_complete)"' -F
