// What the page asks of its server: the HTTP API that everybody else uses.

export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

function headers(key) {
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function refusal(reply) {
  const body = await reply.json().catch(() => null);
  return new Refused(reply.status, body?.error ?? { message: `the server answered ${reply.status}` });
}

export async function health() {
  const reply = await fetch("health");
  return reply.json();
}

// What the server says of itself to anybody. Not stored: the page itself has the same address.
export async function about() {
  const reply = await fetch("./", { headers: { accept: "application/json" }, cache: "no-store" });
  if (!reply.ok) throw await refusal(reply);
  return reply.json();
}

export async function models(key) {
  const reply = await fetch("v1/models", { headers: headers(key) });
  if (!reply.ok) throw await refusal(reply);
  return (await reply.json()).data;
}

// Tiles and tokens of pictures, before anything runs.
export async function price(urls, { detail, key }) {
  const body = JSON.stringify({ images: urls.map((url) => ({ url, detail })) });
  const reply = await fetch("v1/images/price", { method: "POST", headers: headers(key), body });
  if (!reply.ok) throw await refusal(reply);
  return (await reply.json()).images;
}

// Yields the chunks of a streamed answer.
export async function* chat(body, key, signal) {
  const reply = await fetch("v1/chat/completions", {
    method: "POST", headers: headers(key), body: JSON.stringify(body), signal,
  });
  if (!reply.ok) throw await refusal(reply);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Refused(0, { message: "the connection ended before the answer did" });
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(500, chunk.error);
      yield chunk;
    }
  }
}
