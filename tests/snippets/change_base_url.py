# Python — just change base_url
from openai import OpenAI

client = OpenAI(
    base_url="{{URL}}",
    api_key="{{KEY}}"
)

response = client.chat.completions.create(
    model="anthropic/claude-sonnet-4-20250514",
    messages=[{
        "role": "user",
        "content": "Explain quantum computing"
    }]
)

print(response.choices[0].message.content)
