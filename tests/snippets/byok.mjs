import OpenAI from "openai";

const openai = new OpenAI({
  baseURL: "{{URL}}",
  apiKey: "{{KEY}}",
});

async function main() {
  try {
    const response = await openai.chat.completions.create({
      model: "google/gemini-3.1-pro", // Primary Model
      messages: [
        { role: "system", content: "You are a helpful assistant." },
        { role: "user", content: "What is the capital of germany?" },
      ],
      temperature: 0.7,
      stream: false,

      // --- ORBYT CUSTOM EXTENSIONS ---
      // @ts-expect-error Orbyt custom properties
      extra: {
        fallback_models: [
          "anthropic/claude-3-haiku",
          "google/gemini-3-flash-preview",
        ],
        provider: "cheap",
        retry: 3,
        byok: "{{PROVIDER_KEY}}",
      },
    });

    console.log(response.choices[0].message.content);
  } catch (error) {
    console.error("Error:", error);
  }
}

main();
