export { Thought } from "./Thought";
