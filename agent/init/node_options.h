/* node_options.h - the environment variable NODE_OPTIONS as Node.js reads it (ParseNodeOptionsEnvVar in src/node_options.cc):
 * options between spaces, "…" anywhere in them, a backslash escapes inside quotes only. */
#ifndef PILLION_INIT_NODE_OPTIONS_H
#define PILLION_INIT_NODE_OPTIONS_H

#include "agent/base/buf.h"

/* Appends to `out` (empty, initialised) `old` (NULL: none) and a --require of `path` behind it: options that must come first, such
 * as a package manager's loader, stay first. 0; -EEXIST: it is in there already; -EINVAL: node will refuse `old` as it is, and
 * must go on to do so; -ENOMEM. */
int node_options_add(struct buf *out, const char *old, const char *path);

#endif
