// The connection to the broker: empties the outbox, as edge/mqtt/connection.py does.
//
// Each connection has a new client, which holds no more than the window: the outbox alone says what is sent again.

import mqtt from "mqtt";
import { topics } from "./messages.js";

const WINDOW = 20;
const NO_SUBSCRIBER = 0x10;
const LARGEST_IN = 256 * 1024; // bytes of a message that is taken
const RETRY_MS = [500, 30000]; // first and longest wait between attempts to connect
const REFUSED_MS = [1000, 60000]; // and after a message was not taken
const RECEIPT_MS = 60000; // how long a receipt is waited for before all is sent again
const HEALTH_MS = 60000;

export class Connection {
  /** `tell` gives birth() and health(), and hears changed(state, why): online, unreachable or refused. */
  constructor(settings, store, tell) {
    this._settings = settings;
    this._topics = topics(settings);
    this._store = store;
    this._tell = tell;
    this._wait = RETRY_MS[0];
    this._refused = REFUSED_MS[0];
    this.online = false;
    this._connect();
  }

  /** Look at the outbox, or try to connect, now. */
  wake() {
    if (this.online) this._pump();
    else if (this._timer) this._connect();
  }

  /** Say that the device goes offline, and end. */
  stop() {
    this._stopped = true;
    clearTimeout(this._timer);
    clearInterval(this._healthTimer);
    if (this.online) this._client.publish(this._topics.availability, "offline", { qos: 1, retain: true });
    this._client?.end(); // none between two attempts
  }

  _connect() {
    clearTimeout(this._timer);
    this._timer = null;
    const { broker, site, device, username, password } = this._settings;
    this._inFlight = new Set();
    this._awaited = new Set();
    this._cursor = 0;
    this._held = false;
    let why = "unreachable";
    const client = mqtt.connect(broker, {
      protocolVersion: 5,
      clientId: `scanwright-${site}-${device}`,
      clean: true,
      properties: { maximumPacketSize: LARGEST_IN },
      keepalive: 30,
      connectTimeout: 10000,
      reconnectPeriod: 0,
      timerVariant: "native", // the other one makes a worker of a blob, which the page's policy forbids
      username: username || undefined,
      password: password || undefined,
      will: { topic: this._topics.availability, payload: "offline", qos: 1, retain: true },
    });
    this._client = client;
    client.on("error", (error) => {
      if (error.code) why = "refused"; // a CONNACK that says no
    });
    client.on("connect", (connack) => this._connected(client, connack));
    // The callback of a publish is given the message again, not its PUBACK.
    const untaken = new Set();
    client.on("packetreceive", ({ cmd, messageId, reasonCode }) => {
      if (cmd === "puback" && reasonCode === NO_SUBSCRIBER) untaken.add(messageId);
    });
    this._wasUntaken = (messageId) => untaken.delete(messageId);
    client.on("message", (topic, payload) => this._received(topic, payload));
    client.on("close", () => {
      if (client !== this._client || this._stopped) return;
      this._client = null;
      client.end(true);
      this.online = false;
      clearInterval(this._healthTimer);
      clearTimeout(this._resend);
      this._tell.changed(why);
      this._timer = setTimeout(() => this._connect(), this._wait * (0.5 + Math.random() / 2));
      this._wait = Math.min(this._wait * 2, RETRY_MS[1]);
    });
  }

  async _connected(client, connack) {
    this._window = Math.min(WINDOW, connack.properties?.receiveMaximum ?? WINDOW);
    this._late = (await this._store.ends()).last;
    if (client !== this._client) return;
    this._wait = RETRY_MS[0];
    this.online = true;
    client.subscribe(this._topics.ack, { qos: 1 });
    client.publish(this._topics.availability, "online", { qos: 1, retain: true });
    client.publish(this._topics.birth, JSON.stringify(this._tell.birth()), { qos: 1, retain: true });
    const tellHealth = async () => {
      const payload = JSON.stringify(await this._tell.health());
      if (client.connected) client.publish(this._topics.health, payload, { qos: 0 });
    };
    tellHealth();
    this._healthTimer = setInterval(tellHealth, HEALTH_MS);
    this._tell.changed("online");
    this._pump();
  }

  async _pump() {
    if (this._pumping) {
      this._again = true;
      return;
    }
    this._pumping = true;
    do {
      this._again = false;
      const client = this._client;
      const room = this.online && !this._held ? this._window - this._inFlight.size : 0;
      if (room > 0) {
        const messages = await this._store.waiting(room, this._cursor);
        if (client === this._client) for (const message of messages) this._send(client, message);
        this._again ||= messages.length === room;
      }
    } while (this._again && this.online && !this._held && this._inFlight.size < this._window);
    this._pumping = false;
  }

  _send(client, { seq, id, payload }) {
    this._cursor = seq;
    if (this._inFlight.has(id)) return;
    this._inFlight.add(id);
    const text = JSON.stringify(seq > this._late ? payload : { ...payload, backfill: true });
    client.publish(topics(payload).finding, text, { qos: 1 }, async (error, packet) => {
      if (client !== this._client) return;
      this._inFlight.delete(id);
      if (error || this._wasUntaken(packet?.messageId)) {
        this._hold();
      } else if (this._settings.receipts) {
        this._awaited.add(id);
        this._sendAgainAfter(RECEIPT_MS);
      } else {
        await this._letGo([id]);
      }
      this._pump();
    });
  }

  /* Nobody took a message: all is sent again, from the first that waits, after a growing wait. */
  _hold() {
    if (this._held) return;
    this._held = true;
    this._sendAgainAfter(this._refused);
    this._refused = Math.min(this._refused * 2, REFUSED_MS[1]);
  }

  _sendAgainAfter(ms) {
    clearTimeout(this._resend);
    this._resend = setTimeout(() => {
      this._held = false;
      this._cursor = 0;
      this._awaited.clear();
      this._pump();
    }, ms);
  }

  async _letGo(ids) {
    this._refused = REFUSED_MS[0];
    for (const id of ids) this._awaited.delete(id);
    if (!this._awaited.size && !this._held) clearTimeout(this._resend);
    await this._store.done(ids);
    this._tell.changed("online");
  }

  _received(topic, payload) {
    if (topic !== this._topics.ack) return;
    try {
      const { ids } = JSON.parse(new TextDecoder().decode(payload));
      if (Array.isArray(ids)) this._letGo(ids.filter((id) => /^[0-9a-f]{32}$/.test(id)));
    } catch {
      // no Ack: nothing is let go
    }
  }
}
