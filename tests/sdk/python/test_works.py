"""What is no conversation, with the stock SDK: embeddings, pictures, speech, transcripts, moderation."""

import base64
import struct

import openai
import pytest

EMBEDDERS = ["openai/text-embedding-3-small", "google/gemini-embedding-001"]


@pytest.mark.parametrize("model", EMBEDDERS)
def test_embeddings_are_the_same_in_both_encodings(client, model):
    # The SDK asks for base64 unless it is told otherwise, and takes it apart itself.
    packed = client.embeddings.create(model=model, input=["one two", "three"])
    plain = client.embeddings.create(model=model, input=["one two", "three"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 4
    for left, right in zip(packed.data, plain.data):
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)
        assert len(left.embedding) == 512 and sum(value * value for value in left.embedding) == pytest.approx(1, abs=1e-4)
    raw = client.embeddings.create(model=model, input="one two", encoding_format="base64", dimensions=16)
    assert struct.unpack("<16f", base64.b64decode(raw.data[0].embedding)) == pytest.approx(plain.data[0].embedding[:16], abs=1e-6)


def test_more_inputs_than_the_provider_takes_at_once(client):
    texts = [f"text {number}" for number in range(230)]
    answer = client.embeddings.create(model=EMBEDDERS[1], input=texts)
    assert [item.index for item in answer.data] == list(range(230))
    alone = client.embeddings.create(model=EMBEDDERS[1], input=texts[205])
    assert answer.data[205].embedding == pytest.approx(alone.data[0].embedding, abs=1e-6)


def test_errors_of_embeddings_are_the_sdks_own(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="openai/gpt-4o", input="x")
    assert refused.value.param == "model" and "makes no embeddings" in refused.value.message
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="no-such-model", input="x")


def test_pictures(client):
    answer = client.images.generate(model="openai/gpt-image-1", prompt="a red circle", n=2)
    assert len(answer.data) == 2 and base64.b64decode(answer.data[0].b64_json) == b"a red circle"
    assert answer.usage.input_tokens == 3
    edited = client.images.edit(model="openai/gpt-image-1", prompt="green", image=("p.png", b"\x89PNG\0\xff"))
    assert base64.b64decode(edited.data[0].b64_json) == b"green of p.png (6 bytes)"
    kinds = [event.type for event in client.images.generate(model="openai/gpt-image-1", prompt="circle", stream=True)]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]


def test_speech(client):
    spoken = client.audio.speech.create(model="openai/tts-1", voice="alloy", input="hello")
    assert spoken.content == b"\xff\xf3hello"
    with client.audio.speech.with_streaming_response.create(model="openai/tts-1", voice="alloy", input="hello", response_format="pcm") as streamed:
        assert b"".join(streamed.iter_bytes()) == b"\xff\xf3hello"
        assert streamed.headers["content-type"] == "audio/pcm"


def test_transcripts(client):
    sound = ("a.wav", b"RIFF\0\xff\xfe\r\n")
    heard = client.audio.transcriptions.create(model="openai/whisper-1", file=sound)
    assert heard.text == "Text of a.wav (9 bytes)"
    assert client.audio.translations.create(model="openai/whisper-1", file=sound).text == "English of a.wav (9 bytes)"
    text = client.audio.transcriptions.create(model="openai/whisper-1", file=sound, response_format="text")
    assert text.strip() == "Text of a.wav (9 bytes)"
    kinds = [event.type for event in client.audio.transcriptions.create(model="openai/gpt-4o-transcribe", file=sound, stream=True)]
    assert kinds == ["transcript.text.delta", "transcript.text.done"]


def test_moderation_with_and_without_a_model(client):
    named = client.moderations.create(model="openai/omni-moderation-latest", input=["good", "bad"])
    assert [result.flagged for result in named.results] == [False, True]
    assert client.moderations.create(input="bad").results[0].flagged
