import OpenAI from "openai";
const openai = new OpenAI({
baseURL: "{{URL}}",
apiKey: "{{KEY}}",
});
const response = await openai.chat.completions.create({
model: "google/gemini-3.1-pro", // Primary Model
messages: [
{ role: "system", content: "You are a helpful assistant." },
{ role: "user", content: "What is the capital of germany?" },
],
temperature: 0.7,
stream: false,
// --- OPENROUTER CUSTOM EXTENSIONS ---
extra: {
fallback_models: [
"anthropic/claude-3-haiku",
"google/gemini-2.5-flash",
],
provider: "cheap", // Override standard routing mechanism
retry: 3, // Set custom retry handler count
},
});
console.log(response)
