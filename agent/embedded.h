/* embedded.h - the JavaScript files that the program carries and writes into the runtime directory. Made by embedded.c. */
#ifndef PILLION_EMBEDDED_H
#define PILLION_EMBEDDED_H

#include <stddef.h>

extern const char embedded_preload_js[]; /* collectors/node/: identity.js, sampler.js, preload.js */
extern const size_t embedded_preload_js_len;
extern const char embedded_master_js[]; /* agent/init/master.js */
extern const size_t embedded_master_js_len;

#endif
