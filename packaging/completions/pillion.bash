# bash completion for pillion(1). What is offered is what the program itself says in its --help: it cannot be out of date.
# Installed as share/bash-completion/completions/pillion.

_pillion_commands() {
    "$1" --help 2>/dev/null | sed -n 's/^  pillion \([a-z][a-z-]*\).*/\1/p' | sort -u
}

_pillion_options() { # PROGRAM COMMAND
    "$1" "$2" --help 2>/dev/null | sed '/^Examples:/,$d' | grep -oE '[[ ,|]--?[a-zA-Z][a-z-]*' | tr -d '[ ,|' | sort -u
}

# What a WORKER may be: who is there, and the selectors that the command itself names.
_pillion_workers() {
    "$1" workers --json 2>/dev/null | grep -oE '"pid":[0-9]+' | cut -d: -f2 | sort -un
    printf 'all\n'
}

_pillion() {
    local program=$1 word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$(_pillion_commands "$program") --help --version" -- "$word")
        return
    fi
    if [[ $command == run ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            if [[ ${COMP_WORDS[i]} == -- ]]; then # the application's own command line
                _pillion_command_line "$((i + 1))"
                return
            fi
        done
    fi
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_pillion_options "$program" "$command")" -- "$word")
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == --workers ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'auto 1 2 4 8' -- "$word")
    elif "$program" "$command" --help 2>/dev/null | head -n 3 | grep -q ' WORKER'; then
        mapfile -t COMPREPLY < <(compgen -W "$(_pillion_workers "$program")" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames 2>/dev/null
    fi
}

_pillion_command_line() {
    if declare -F _command_offset >/dev/null; then # bash-completion is loaded: as the command itself would have it
        _command_offset "$1"
    elif ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _pillion pillion
