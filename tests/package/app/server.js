// A module that is rendered on a server, as frameworks do: it imports the package, and a class is only made in a browser.
import { JsonWebSocket, MultiWebSocket, RelativeWebSocket } from "manysocket";
import { rpc } from "manysocket/rpc";
import { state } from "manysocket/state";

console.log([MultiWebSocket, JsonWebSocket, RelativeWebSocket, rpc, state].map((each) => typeof each).join(" "));
