/* profile.h - streaming reader of .cpuprofile and .heapprofile.
 *
 * The format is V8's: CDP's Profiler.Profile {nodes, startTime, endTime, samples, timeDeltas} and
 * HeapProfiler.SamplingHeapProfile {head, samples}, written by the inspector, by `node --cpu-prof` and `--heap-prof` and by
 * v8.startCpuProfile(), also inside of an inspector's answer ({"result":{"profile":…}}). Keys may come in any order; nodes are
 * linked by lists of ids, by a parent's id, or lie inside each other; ids are any whole numbers.
 *
 * A sample weighs the time until the next one: timeDeltas[i + 1], negative ones 0, the last one nothing. Without timeDeltas all
 * samples weigh the same share of the duration; without samples a node weighs its hitCount. */
#ifndef PILLION_FLAMEGRAPH_PROFILE_H
#define PILLION_FLAMEGRAPH_PROFILE_H

#include "collectors/flamegraph/graph.h"
#include "collectors/flamegraph/source.h"

/* Adds what the source holds to the graph: nodes, their own weights, timeline, facts. Before a second call on the same
 * graph comes graph_set_base(). -EINVAL, -EFBIG with a line in `why` (256 bytes); -ENOMEM; errno of read. */
int profile_read(struct graph *g, struct source *source, char *why);

#endif
