#include "agent/embedded.h"

#include "agent/base/embed.h"

/* `make` knows that this file depends on them. */
EMBED(embedded_preload_js,
      PART("collectors/node/identity.js") PART("collectors/node/sampler.js")
          PART("collectors/node/fork/fork.js") PART("collectors/node/capture.js")
              PART("collectors/node/preload.js"));
EMBED(embedded_master_js, PART("agent/init/master.js"));
/* Built for the processor that this program is built for. */
EMBED(embedded_fork_node, PART(PILLION_FORK_NODE));
