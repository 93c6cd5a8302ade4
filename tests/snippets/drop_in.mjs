import OpenAI from "openai";

const openai = new OpenAI({
  baseURL: "{{URL}}",
  apiKey: "{{KEY}}",
});

const response = await openai.chat.completions.create({
  model: "google/gemini-3.1-pro",
  messages: [
    { role: "system", content: "You are a helpful assistant." },
    { role: "user", content: "What is the capital of Germany?" }
  ],
  temperature: 0.7,
  // Orbyt extensions
  extra: {
    fallback_models: [
      "anthropic/claude-3-haiku",
      "google/gemini-2.5-flash"
    ],
    provider: "cheap",
    retry: 3
  }
});
