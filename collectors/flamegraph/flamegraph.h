/* flamegraph.h - .cpuprofile and .heapprofile to a flame graph, in one streaming pass. No libuv; may run on a worker thread.
 *
 * Memory grows with the tree (about 40 bytes for each node of the file, 1 MiB for all else), not with the samples; the profile itself
 * is never in memory, so that in_fd may be the pipe that it comes through. */
#ifndef PILLION_FLAMEGRAPH_H
#define PILLION_FLAMEGRAPH_H

#include <stdbool.h>
#include <stdint.h>

enum flamegraph_format {
    FLAMEGRAPH_HTML,
    FLAMEGRAPH_SVG,
    FLAMEGRAPH_FOLDED,
    FLAMEGRAPH_SPEEDSCOPE,
    FLAMEGRAPH_PPROF,
    FLAMEGRAPH_TEXT,
};
#define FLAMEGRAPH_FORMATS 6

/* "html" …; -EINVAL: none of them. By the end of a file's name: .html .svg .folded .speedscope.json .pb.gz .txt. */
const char *flamegraph_format_name(enum flamegraph_format format);
int flamegraph_format_read(const char *name, enum flamegraph_format *ret);
int flamegraph_format_of_file(const char *file, enum flamegraph_format *ret);

struct flamegraph_options {
    enum flamegraph_format format;
    const char *title; /* UTF-8; NULL: "CPU profile" or "Heap profile" */
    int base_fd; /* a second profile to compare with (differential; html and text), -1: none */
    bool show_idle;
    void (*progress)(void *arg, uint64_t bytes_read); /* of one file; may be NULL */
    void *arg;
};

/* Reads in_fd (plain or gzip, found by its first bytes), writes out_fd. 0; -EINVAL, -EFBIG (the tree is beyond its cap) with a line
 * in `why` (256 bytes: what is wrong at which byte); -ENOMEM; errno of read and write. Nothing is written before all was read. */
int flamegraph_make(int in_fd, int out_fd, const struct flamegraph_options *options, char *why);

#endif
