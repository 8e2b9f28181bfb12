/* embedded.h - the JavaScript files that the program carries and writes into the runtime directory. Made by embedded.c. */
#ifndef PILLION_EMBEDDED_H
#define PILLION_EMBEDDED_H

#include <stddef.h>

extern const char
    embedded_preload_js[]; /* collectors/node/: identity, sampler, fork, capture, preload */
extern const size_t embedded_preload_js_len;
extern const char embedded_master_js[]; /* agent/init/master.js */
extern const size_t embedded_master_js_len;
extern const char
    embedded_fork_node[]; /* collectors/node/fork/snapshot.c, built; empty where it cannot be */
extern const size_t embedded_fork_node_len;

#endif
