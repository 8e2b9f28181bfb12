/* prepare.h - what must be in place before the application starts: the runtime directory and the files that Node.js loads from it.
 *
 *   preload.js     loaded into every Node.js process (0644)
 *   master.js      `run --workers` (0644)
 *   package.json   {"type":"commonjs"}: without it a "type":"module" further up would make ES modules of the two, and node would
 *                  refuse to --require them
 *
 * A --require of a file that is not there or cannot be read ends every Node.js process, npm included: NODE_OPTIONS is only ever
 * set after prepare_files() said that all is in place. */
#ifndef PILLION_INIT_PREPARE_H
#define PILLION_INIT_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* 0700; 0711 as root: an entrypoint may give up root before it starts node, which must still read preload.js. */
mode_t prepare_dir_mode(void);

/* Writes what is not there or not as it should be, and opens it by its path as node will. `dirfd` is `dir`, opened with
 * fs_private_dir(). 0 or a negative errno with the reason for people. *ret_written (may be NULL): so many files were written.
 * The helper calls it as well, again and again. */
int prepare_files(int dirfd, const char *dir, int *ret_written, char *why, size_t why_size);

#define PREPARE_ENV_MARK "_PILLION_RUN"

/* The application's environment: ours without PILLION_INIT_FD, with preload.js in NODE_OPTIONS and the mark. */
struct prepared_env {
    char **env; /* owned; its strings are the caller's but for these two */
    char *node_options;
    char *mark;
};
/* `dir` NULL: no preload, no mark. -ENOMEM leaves *ret cleared. */
int prepare_env(struct prepared_env *ret, char *const *env, const char *dir, bool mark);
void prepare_env_clear(struct prepared_env *p);
/* Was this environment made by a `run` that still lives and has its helper in the same directory? */
bool prepare_is_nested(char *const *env, const char *dir);
const char *prepare_getenv(char *const *env, const char *name);

#endif
