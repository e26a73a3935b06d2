"""OpenAI's client, as published, draws pictures with a router: openai_works.py ROUTER"""

import base64
import sys
import urllib.request

import openai

router = sys.argv[1]
client = openai.OpenAI(base_url=f"{router}/v1", api_key="any:key")

by_url = client.images.generate(
    model="shapes", prompt="a red circle", n=2, size="64x64", extra_body={"steps": 2, "seed": 7}
)
assert len(by_url.data) == 2 and by_url.created > 0, by_url
with urllib.request.urlopen(by_url.data[0].url) as picture:
    content = picture.read()
assert content.startswith(b"\x89PNG"), content[:8]

in_base64 = client.images.generate(
    model="shapes", prompt="a red circle", response_format="b64_json", quality="hd",
    extra_body={"steps": 2, "seed": 7, "width": 64, "height": 64},
)
decoded = base64.b64decode(in_base64.data[0].b64_json)
assert decoded == content, "the same seed is the same picture"
assert in_base64.data[0].url is None

for arguments, error_class, param in [
    ({"model": "none/such"}, openai.NotFoundError, None),
    ({"model": "dall-e-3"}, openai.NotFoundError, None),
    ({"model": "shapes", "size": "huge"}, openai.BadRequestError, "size"),
    ({"model": "shapes", "n": 11}, openai.BadRequestError, "n"),
    ({"model": "shapes", "extra_body": {"steps": -1}}, openai.UnprocessableEntityError, "steps"),
]:
    try:
        client.images.generate(prompt="a red circle", **arguments)
    except error_class as error:
        assert error.param == param and error.body["message"], (arguments, error.body)
    else:
        raise AssertionError(f"{arguments} was accepted")
print("passed")
