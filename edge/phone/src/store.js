// What the phone keeps, in IndexedDB: its settings and secret, the results, and what is still to be told.

const DATABASE = "scanwright";
const MOST_RESULTS = 500; // the oldest beyond give way

/** The phone has no room for more. */
export class StorageFullError extends Error {}

export class Store {
  static async open() {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      const database = request.result;
      database.createObjectStore("kept");
      database.createObjectStore("results", { keyPath: "order", autoIncrement: true }).createIndex("id", "id", { unique: true });
      database.createObjectStore("outbox", { keyPath: "seq", autoIncrement: true }).createIndex("id", "id", { unique: true });
    };
    return new Store(await answer(request));
  }

  constructor(database) {
    this._database = database;
  }

  /** What is kept under a name, or undefined. */
  kept(name) {
    return this._read("kept", (kept) => kept.get(name));
  }

  /** Keep a value under a name. Throws StorageFullError. */
  keep(name, value) {
    return this._write(["kept"], ({ kept }) => kept.put(value, name));
  }

  /**
   * Keep a result, and what is to be told of it, both or neither; it is on the disk when this returns.
   * False if a result with its id is kept already. Throws StorageFullError.
   */
  async add(result, message) {
    if (await this.byId(result.id)) return false;
    await this._write(["results", "outbox"], ({ results, outbox }) => {
      results.add(result);
      if (message) {
        outbox.index("id").getKey(message.id).onsuccess = ({ target }) => target.result ?? outbox.add(message);
      }
      results.count().onsuccess = ({ target }) => {
        let surplus = target.result - MOST_RESULTS;
        if (surplus <= 0) return;
        results.openCursor().onsuccess = ({ target: { result: cursor } }) => {
          if (!cursor || surplus-- <= 0) return;
          cursor.delete();
          cursor.continue();
        };
      };
    });
    return true;
  }

  /** The result with an id, or undefined. */
  byId(id) {
    return this._read("results", (results) => results.index("id").get(id));
  }

  /** The newest results, newest first. */
  newest(most) {
    return new Promise((resolve, reject) => {
      const found = [];
      const request = this._database.transaction("results").objectStore("results").openCursor(null, "prev");
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor || found.length === most) return resolve(found);
        found.push(cursor.value);
        return cursor.continue();
      };
    });
  }

  /** Forget a result; what is to be told of it is told all the same. */
  forget(order) {
    return this._write(["results"], ({ results }) => results.delete(order));
  }

  forgetAll() {
    return this._write(["results"], ({ results }) => results.clear());
  }

  /** The first `n` waiting messages whose `seq` is above `after`. */
  waiting(n, after) {
    return this._read("outbox", (outbox) => outbox.getAll(IDBKeyRange.lowerBound(after, true), n));
  }

  /** Let messages go: the receiver has them. */
  done(ids) {
    return this._write(["outbox"], ({ outbox }) => {
      for (const id of ids) {
        outbox.index("id").getKey(id).onsuccess = ({ target }) => target.result && outbox.delete(target.result);
      }
    });
  }

  /** How many messages wait. */
  backlog() {
    return this._read("outbox", (outbox) => outbox.count());
  }

  /** The greatest `seq` that waits, 0 if none does, and when the first was put, or null. */
  async ends() {
    const [first] = await this.waiting(1, 0);
    const keys = await this._read("outbox", (outbox) => outbox.getAllKeys());
    return { last: keys.at(-1) ?? 0, oldest: first?.at ?? null };
  }

  _read(name, ask) {
    return answer(ask(this._database.transaction(name).objectStore(name)));
  }

  _write(names, change) {
    return new Promise((resolve, reject) => {
      const transaction = this._database.transaction(names, "readwrite", { durability: "strict" });
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => {
        const { error } = transaction;
        reject(error?.name === "QuotaExceededError" ? new StorageFullError(error.message) : error);
      };
      change(Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)])));
    });
  }
}

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
