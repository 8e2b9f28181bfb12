/* origin.h - whose code a function is, from its name and URL as V8 gives them. */
#ifndef PILLION_FLAMEGRAPH_ORIGIN_H
#define PILLION_FLAMEGRAPH_ORIGIN_H

#include <stddef.h>

#include "collectors/flamegraph/names.h"

/* For ORIGIN_PACKAGE *ret_package is the package's name inside `url` ("@scope/name" with its scope), else it isn't set. */
enum origin origin_of(const char *name, const char *url, const char **ret_package, size_t *ret_len);

#endif
