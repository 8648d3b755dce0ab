// One question on its way: streamed into its turn, measured where the reader sits and in the server.

import { chat } from "./api.js";
import { count } from "./view.js";

const part = ({ url, detail = "auto" }) => ({ type: "image_url", image_url: { url, detail } });

export function body(turns, { model, system, temperature, maxTokens, seed, showTokens }) {
  const messages = turns
    .filter((turn) => !turn.fault || turn.text)
    .map(({ role, text, pictures = [] }) => ({
      role, content: pictures.length ? [...pictures.map(part), { type: "text", text }] : text,
    }));
  return {
    model, messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    stream: true, stream_options: { include_usage: true }, timings: true,
    ...(temperature === null ? {} : { temperature }), ...(maxTokens === null ? {} : { max_tokens: maxTokens }),
    ...(seed === null ? {} : { seed }), ...(showTokens ? { logprobs: true, top_logprobs: 3 } : {}),
  };
}

// Fills `turn` and what is shown of it; a stop is no fault. Returns when the answer has ended.
export async function answer(request, { turn, shown, key, signal, scroll }) {
  const begun = performance.now();
  let first = null, last = null, usage = null;
  try {
    for await (const chunk of chat(request, key, signal)) {
      usage = chunk.usage ?? usage;
      for (const { delta, logprobs } of chunk.choices) {
        if (!delta.content && !logprobs) continue;
        last = performance.now();
        first ??= last;
        turn.text += delta.content ?? "";
        if (logprobs) {
          (turn.tokens ??= []).push(...logprobs.content);
          shown.addTokens(logprobs.content);
        } else shown.add(delta.content);
        scroll();
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") { turn.fault = error.message; throw error; }
    turn.stopped = true;
  } finally {
    turn.figures = figures({ begun, first, last, usage, turn });
    if (turn.figures.length) shown.measure(turn.figures);
  }
}

const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

function figures({ begun, first, last, usage, turn }) {
  const rows = [];
  if (first !== null) rows.push(["first token", ms(first - begun)]);
  if (usage && usage.completion_tokens > 1 && last > first) {
    rows.push(["speed", `${((usage.completion_tokens - 1) / (last - first) * 1000).toFixed(1)} tok/s`]);
  }
  if (usage) {
    const { timings, prompt_tokens_details: details } = usage;
    rows.push(["queue", ms(timings.queue_ms)], ["prefill", ms(timings.prefill_ms)]);
    const parts = [details.image_tokens && `${details.image_tokens} of pictures`, details.cached_tokens && `${details.cached_tokens} from the cache`].filter(Boolean);
    rows.push(["prompt", `${count(usage.prompt_tokens, "token")}${parts.length ? ` (${parts.join(", ")})` : ""}`]);
    rows.push(["answer", count(usage.completion_tokens, "token")]);
  }
  if (turn.stopped) rows.push(["stopped", "by you"]);
  return rows;
}
