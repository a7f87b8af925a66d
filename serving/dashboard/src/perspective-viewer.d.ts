// What is used of the viewer; its own declarations need React's.
import type { Client } from "@perspective-dev/client";

export interface PerspectiveViewer extends HTMLElement {
  load(client: Client): Promise<void>;
  restore(config: Record<string, unknown>): Promise<void>;
  delete(): Promise<void>;
}

declare const viewer: { init_client(wasm: Promise<Response>, module: Promise<unknown>): Promise<void> };
export default viewer;
