#include "collectors/flamegraph/page.h"

#include "agent/base/embed.h"

EMBED(flamegraph_page_html, PART("collectors/flamegraph/page/page.html"));
EMBED(flamegraph_page_css, PART("collectors/flamegraph/page/page.css"));
EMBED(flamegraph_page_js,
      PART("collectors/flamegraph/page/data.js") PART("collectors/flamegraph/page/layout.js")
          PART("collectors/flamegraph/page/view.js") PART("collectors/flamegraph/page/main.js"));
