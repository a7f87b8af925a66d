import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [preact({ devToolsEnabled: false })],
  // Everything comes from the server itself: its policy allows no other place, and no data: scripts.
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1600,
    rolldownOptions: { input: ["index.html", "docs.html"] },
  },
  // `npm run dev` beside a running `anabranch serving`.
  server: { proxy: { "/v1": "http://localhost:8080" } },
});
