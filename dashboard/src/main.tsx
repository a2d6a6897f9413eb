import { createRoot } from "react-dom/client";
import { App } from "./App";
import { start } from "./store";
import "uplot/dist/uPlot.min.css";
import "./style.css";

const root = document.getElementById("root");
if (root) {
  start();
  createRoot(root).render(<App />);
}
