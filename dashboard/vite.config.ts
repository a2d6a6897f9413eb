import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const server = process.env.HOMEOSTAT_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  // Relative addresses: the page works at `/` and behind a proxy's path alike.
  base: "./",
  plugins: [react()],
  build: { target: "es2022", assetsInlineLimit: 8192, modulePreload: false },
  server: { proxy: { "/v1": server } },
});
