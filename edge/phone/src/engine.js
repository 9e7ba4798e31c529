// LiteRT's WebAssembly, asked directly: its JavaScript API refuses int8 tensors, its WASM does not.

/** The interpreter is not there, does not take the model, or failed at running it. */
export class EngineError extends Error {}

const TYPES = { 1: Float32Array, 3: Uint8Array, 9: Int8Array }; // by litert::ElementType
const DTYPES = { 1: "float32", 3: "uint8", 9: "int8" };

/** Runs a model with one input and batch 1. For a classic worker only: LiteRT's loader is a classic script. */
export class Engine {
  /** Load the interpreter from `script`, its .wasm beside it, and compile `model`, a Uint8Array. */
  static async create(script, model) {
    try {
      importScripts(script);
      const folder = script.slice(0, script.lastIndexOf("/") + 1);
      const wasm = await self.ModuleFactory({ locateFile: (name) => folder + name, print() {}, printErr() {} });
      wasm.setupLogging();
      return await new Engine(wasm)._compile(model);
    } catch (error) {
      throw error instanceof EngineError ? error : new EngineError(`LiteRT refuses the model: ${error?.message ?? error}`);
    }
  }

  constructor(wasm) {
    this._wasm = wasm;
  }

  async _compile(model) {
    const wasm = this._wasm;
    this._environment = wasm.LiteRtEnvironment.create(null);
    const place = wasm._malloc(model.length);
    wasm.HEAPU8.set(model, place);
    this._model = wasm.loadModel(this._environment, place, model.length);
    const signature = this._model.getSignature(0);
    const [inputs, outputs] = [signature.inputNames().size(), signature.outputNames().size()];
    if (inputs !== 1) throw new EngineError(`the model has ${inputs} inputs; scanwright runs models with one`);
    this._inputType = this._model.getInputTensorType(0, 0);
    /** {dtype, shape} of the input, and of the outputs in index order. */
    this.input = describe(this._inputType);
    this.outputs = Array.from({ length: outputs }, (_, i) => describe(this._model.getOutputTensorType(0, i)));
    this._compiled = await wasm.compileModel(this._environment, this._model, { accelerator: "wasm" });
    this._buffer = wasm.LiteRtTensorBuffer.createManaged(
      this._environment,
      wasm.LiteRtTensorBufferType.HOST_MEMORY,
      this._inputType,
      this._inputType.bytes(),
    );
    return this;
  }

  /** Outputs in index order, quantized as the model gives them; `tensor` is of the input's size and dtype. */
  run(tensor) {
    const wasm = this._wasm;
    const bytes = new Uint8Array(tensor.buffer, tensor.byteOffset, tensor.byteLength);
    if (bytes.length !== this._inputType.bytes()) throw new EngineError("the input is not of the model's size");
    try {
      wasm.HEAPU8.set(bytes, this._buffer.lock(wasm.LiteRtTensorBufferLockMode.WRITE));
      this._buffer.unlock();
      const buffers = this._compiled.run(0, [this._buffer]);
      return buffers.map((buffer, i) => {
        const start = buffer.lock(wasm.LiteRtTensorBufferLockMode.READ);
        const data = wasm.HEAPU8.slice(start, start + buffer.packedSize());
        buffer.unlock();
        buffer.delete();
        return new TYPES[this.outputs[i].type](data.buffer);
      });
    } catch (error) {
      throw new EngineError(`LiteRT failed: ${error?.message ?? error}`);
    }
  }
}

function describe(tensorType) {
  const type = tensorType.elementType().value;
  const dimensions = tensorType.layout().dimensions();
  const shape = Array.from({ length: dimensions.size() }, (_, i) => dimensions.get(i));
  if (!(type in TYPES)) throw new EngineError("a tensor of a type that is not run here");
  return { type, dtype: DTYPES[type], shape };
}
