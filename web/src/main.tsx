import { render } from "preact";
import { App, AppContext } from "./app/app";
import { Page } from "./components/page";
import "./styles/index.css";

const app = new App();
const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
// Before the first drawing, so that it knows how wide the page is.
void app.start();
render(
  <AppContext.Provider value={app}>
    <Page />
  </AppContext.Provider>,
  root,
);
