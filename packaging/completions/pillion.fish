# fish completion for pillion(1). What is offered is what the program itself says in its --help: it cannot be out of date.
# Installed as share/fish/vendor_completions.d/pillion.fish.

function __pillion_commands
    pillion --help 2>/dev/null | string replace -rf '^  pillion ([a-z][a-z-]*).*' '$1' | sort -u
end

function __pillion_options
    set -l words (commandline -opc)
    pillion $words[2] --help 2>/dev/null | sed '/^Examples:/,$d' | string match -rag -- '[\[ ,|](--?[a-zA-Z][a-z-]*)' | sort -u
end

function __pillion_takes_worker
    set -l words (commandline -opc)
    test (count $words) -ge 2; and pillion $words[2] --help 2>/dev/null | head -n 3 | string match -q '* WORKER*'
end

function __pillion_workers
    pillion workers --json 2>/dev/null | string match -rag '"pid":([0-9]+)' | sort -un
    echo all
end

function __pillion_first
    test (count (commandline -opc)) -eq 1
end

complete -c pillion -n __pillion_first -f -a '(__pillion_commands)'
complete -c pillion -n 'not __pillion_first' -a '(__pillion_options)'
complete -c pillion -n __pillion_takes_worker -f -a '(__pillion_workers)'
complete -c pillion -n '__fish_seen_subcommand_from run' -a '(__fish_complete_subcommand)'
