/** Why a call has no result. */
export class RpcError extends Error {
  constructor(code, message, data) {
    super(message);
    this.code = code;
    this.data = data;
  }
}
// The build shortens the names of classes.
Object.defineProperty(RpcError.prototype, "name", { value: "RpcError", writable: true, configurable: true });
