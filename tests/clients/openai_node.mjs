// openai-node against the proxy: what an application does with it.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, baseURL] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/node_modules/`));
const OpenAI = require("openai").default;
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const model = "fake";
const messages = [{ role: "user", content: "Grüße, 世界" }];
const said = "You said: Grüße, 世界";
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
const checks = {
  async chat() {
    const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
    assert.equal(data.choices[0].message.content, said);
    assert.match(response.headers.get("x-forethought-decision"), /^dec_/);
  },
  async chat_streamed() {
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "", usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, said);
    assert.equal(usage.completion_tokens, 4);
  },
  async chat_streamed_in_pieces() {
    const headers = { "x-fake": "split" };
    const runner = client.chat.completions.stream({ model, messages }, { headers });
    assert.equal((await runner.finalChatCompletion()).choices[0].message.content, said);
  },
  async tool_calls_streamed() {
    const headers = { "x-fake": "calls=2+interleaved" };
    const runner = client.chat.completions.stream({ model, messages, tools }, { headers });
    const calls = (await runner.finalChatCompletion()).choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments).city), ["Zürich 0", "Zürich 1"]);
  },
  async abort() {
    const controller = new AbortController();
    const options = { headers: { "x-fake": "gap=50+chunks=100" }, signal: controller.signal };
    const stream = await client.chat.completions.create({ model, messages, stream: true }, options);
    let n = 0;
    await assert.rejects(async () => {
      for await (const _ of stream) if (++n === 3) controller.abort();
      if (controller.signal.aborted) throw new OpenAI.APIUserAbortError();
    });
    assert.ok(n < 50);
  },
  async responses() {
    const response = await client.responses.create({ model, input: messages[0].content });
    assert.equal(response.output_text, said);
  },
  async responses_streamed() {
    const stream = client.responses.stream({ model, input: messages[0].content });
    assert.equal((await stream.finalResponse()).output_text, said);
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model, input: ["abc"] });
    assert.deepEqual(Array.from(data[0].embedding), [3, 0.5]);
  },
  async completions() {
    const done = await client.completions.create({ model, prompt: "dinner" });
    assert.equal(done.choices[0].text, "after dinner");
  },
  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    assert.ok(ids.includes("fake") && ids.includes("forethought/auto"));
  },
  async errors() {
    const headers = { "x-fake": "status=429+retry-after=0" };
    await assert.rejects(client.chat.completions.create({ model, messages }, { headers }), OpenAI.RateLimitError);
    await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
  },
  async a_stream_that_breaks_off() {
    const headers = { "x-fake": "drop+chunks=9" };
    const stream = await client.chat.completions.create({ model, messages, stream: true }, { headers });
    await assert.rejects(async () => { for await (const _ of stream); });
  },
};
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`not ok ${name}: ${String(error.message).split("\n")[0]}`);
  }
}
process.exit(0);
