"""Elicitation, sampling and roots: by requests in the legacy era, by `input_required` in the new."""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
import pytest
from conftest import HERE, client, host, text
from raw import Raw, raw

BEHAVIOURS = ("--file", str(HERE / "plugins/behaviours.py"))
ALL = {"elicitation": {}, "sampling": {}, "roots": {}}


@pytest.fixture
def legacy() -> Any:
    with raw(*BEHAVIOURS) as server:
        yield server.open("legacy", ALL)


@pytest.fixture
def modern() -> Any:
    with raw(*BEHAVIOURS) as server:
        yield server.open("2026-07-28", ALL)


FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "description": "your name"},
        "colour": {"type": "string", "enum": ["red", "green"], "default": "red"},
        "age": {"type": "integer", "default": 0},
    },
    "required": ["name"],
}


def asked(server: Raw) -> Any:
    message = server.next()
    assert "method" in message and "id" in message, message
    return message


def test_legacy_asks_by_request(legacy: Raw) -> None:
    id = legacy.start("tools/call", name="asks")
    question = asked(legacy)
    assert question["method"] == "elicitation/create"
    assert question["params"] == {"message": "Who are you?", "requestedSchema": FORM}
    legacy.send({"jsonrpc": "2.0", "id": question["id"],
                 "result": {"action": "accept", "content": {"name": "Ada", "age": 36}}})
    said = legacy.answer(id)["result"]["content"][0]["text"]
    assert said == "accept Answer(name='Ada', colour='red', age=36)"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"result": {"action": "decline"}}, "decline None"),
        ({"result": {"action": "cancel", "content": {"name": "x"}}}, "cancel None"),
        ({"result": {"action": "accept", "content": {"name": ""}}},
         "plugin behaviours, function asks: Unable: the client's answer does not fit: name: must "
         "have a length of at least 1, not 0"),
        ({"result": {"action": "accept", "content": {"nom": "x"}}}, 'there is no "nom"'),
        ({"result": {"action": "shrug"}}, "answered with the action 'shrug'"),
        ({"result": []}, "is no object"),
        ({"error": {"code": -1, "message": "no user"}}, "refused elicitation/create: no user"),
        ({"error": "?"}, "refused elicitation/create"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_whatever_the_client_answers(legacy: Raw, answer: Any, said: str) -> None:
    id = legacy.start("tools/call", name="asks")
    legacy.send({"jsonrpc": "2.0", "id": asked(legacy)["id"], **answer})
    assert said in legacy.answer(id)["result"]["content"][0]["text"]


def test_modern_answers_input_required_and_goes_on_where_it_was(modern: Raw) -> None:
    first = modern.call("asks_twice")["result"]
    assert first["resultType"] == "input_required"
    [(key, question)] = first["inputRequests"].items()
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "First?"
    # Another call meanwhile is another call.
    assert modern.text("add", a=1, b=2) == "3.0"
    second = resume(modern, "asks_twice", first, {key: accept("one")})
    assert second["resultType"] == "input_required"
    assert second["requestState"] != first["requestState"]
    [(key, question)] = second["inputRequests"].items()
    assert question["params"]["message"] == "Second?"
    last = resume(modern, "asks_twice", second, {key: accept(2)})
    assert last["resultType"] == "complete"
    assert last["content"][0]["text"] == "one 2"


def accept(value: Any) -> Any:
    return {"action": "accept", "content": {"value": value}}


def resume(
    server: Raw, name: str, result: Any, answers: Any, *, arguments: Any = None, **more: Any
) -> Any:
    answer = server.request(
        "tools/call", name=name, arguments=arguments or {}, inputResponses=answers,
        requestState=result["requestState"], **more,
    )
    return answer.get("result", answer)


def test_questions_at_once(modern: Raw) -> None:
    result = modern.call("asks_at_once")["result"]
    rounds = 0
    while result["resultType"] == "input_required":
        rounds += 1
        answers = {
            key: accept(question["params"]["message"])
            for key, question in result["inputRequests"].items()
        }
        result = resume(modern, "asks_at_once", result, answers)
    assert result["content"][0]["text"] == "One? Two?" and rounds <= 2


def test_a_missing_answer_is_asked_for_again(modern: Raw) -> None:
    first = modern.call("asks_twice")["result"]
    again = resume(modern, "asks_twice", first, {"unknown": {}})
    assert again["resultType"] == "input_required"
    assert again["inputRequests"] == first["inputRequests"]


def test_a_request_state_is_good_once_and_for_its_own_call(modern: Raw) -> None:
    first = modern.call("asks")["result"]
    wrong = [
        resume(modern, "asks_twice", first, {}),
        resume(modern, "asks", first, {}, arguments={"x": 1}),
        resume(modern, "asks", {"requestState": first["requestState"][:-1]}, {}),
        resume(modern, "asks", {"requestState": "ü"}, {}),
        resume(modern, "asks", {"requestState": 7}, {}),
    ]
    assert [answer["error"]["code"] for answer in wrong] == [-32602] * 5
    [key] = first["inputRequests"]
    done = resume(modern, "asks", first, {key: {"action": "decline"}})
    assert done["content"][0]["text"] == "decline None"
    assert resume(modern, "asks", first, {})["error"]["code"] == -32602


def test_a_function_that_gives_up_meanwhile(modern: Raw) -> None:
    first = modern.call("asks_patiently")["result"]
    assert first["resultType"] == "input_required"
    [key] = first["inputRequests"]
    # It may have given up by now, or hears of the answer first.
    last = resume(modern, "asks_patiently", first, {key: {"action": "cancel"}})
    assert last["content"][0]["text"] in ("nobody", "somebody")


def test_a_cancelled_call_asks_no_more(legacy: Raw) -> None:
    id = legacy.start("tools/call", name="asks")
    question = asked(legacy)
    legacy.notify("notifications/cancelled", requestId=id)
    legacy.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}})
    assert legacy.text("add", a=1, b=2) == "3.0"
    assert legacy.others() == []


def test_a_client_that_cannot_be_asked(era: str) -> None:
    with raw(*BEHAVIOURS) as server:
        server.open(era, {"elicitation": {"url": {}}})
        for name, capability in [
            ("asks", {"elicitation": {"form": {}}}), ("samples", {"sampling": {}}),
            ("looks", {"roots": {}}),
        ]:
            answer = server.call(name)
            kind = " of the kind ".join(
                [next(iter(capability)), *(["form"] if name == "asks" else [])]
            )
            said = f"plugin behaviours, function {name}: "
            if era == "legacy":
                text = answer["result"]["content"][0]["text"]
                assert text == f"{said}the client does not offer {kind}"
            else:
                assert answer["error"] == {
                    "code": -32021, "message": f"{said}the client does not offer {kind}",
                    "data": {"requiredCapabilities": capability},
                }


async def _elicit(_: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    if params.mode == "url":
        return types.ElicitResult(action="accept")
    values = {"name": "Ada", "value": {"First?": "one", "Second?": 2}.get(params.message, "x")}
    wanted = params.requested_schema["properties"]
    return types.ElicitResult(action="accept", content={k: values[k] for k in wanted if k in values})


async def _sample(_: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    assert params.system_prompt == "be brief" and params.max_tokens == 9
    said = types.TextContent(type="text", text="something")
    return types.CreateMessageResult(role="assistant", content=said, model="m")


async def _roots(_: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///home/a%20b", name="x")])


CALLBACKS = {
    "elicitation_callback": _elicit, "sampling_callback": _sample, "list_roots_callback": _roots,
}

ANSWERS = {
    "asks": "accept Answer(name='Ada', colour='red', age=0)",
    "asks_twice": "one 2",
    "asks_at_once": "x x",
    "opens": "accept",
    "samples": "m: something",
    "looks": '["/home/a b"]',
}


def test_the_official_client_is_asked(era: str) -> None:
    async def main() -> None:
        async with client(host(*BEHAVIOURS), era, **CALLBACKS) as connected:
            for name, answer in ANSWERS.items():
                assert text(await connected.call_tool(name)) == answer

    anyio.run(main)
