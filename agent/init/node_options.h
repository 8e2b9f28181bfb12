/* node_options.h - the environment variable NODE_OPTIONS as Node.js reads it (ParseNodeOptionsEnvVar in src/node_options.cc):
 * options between spaces, "…" anywhere in them, a backslash escapes inside quotes only. */
#ifndef PILLION_INIT_NODE_OPTIONS_H
#define PILLION_INIT_NODE_OPTIONS_H

#include <stdbool.h>

#include "agent/base/buf.h"

/* Appends to `out` (empty, initialised) `old` (NULL: none) and a --require of `path` behind it: options that must come first, such
 * as a package manager's loader, stay first. 0; -EEXIST: it is in there already; -EINVAL: node will refuse `old` as it is, and
 * must go on to do so; -ENOMEM. */
int node_options_add(struct buf *out, const char *old, const char *path);

/* Node.js 20 with its permission model ends at once when a --require lies outside what it may read; later ones go on without it.
 * True when `argv` or `old` (NULL: none) asks for that model and does not allow all files, or those of `dir`, to be read. */
bool node_options_forbid(const char *const *argv, const char *old, const char *dir);

#endif
