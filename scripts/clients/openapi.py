"""What schemathesis cannot know from /openapi.json: names of models that there are, and the shapes of bodies that the
description calls an object. Loaded by scripts/openapi-test.sh; HOMEOSTAT_URL says where the server is. Run as a program
it looks whether the server still answers well: `openapi.py`.
"""

import json
import os
import sys
import urllib.error
import urllib.request
import zlib

URL = os.environ["HOMEOSTAT_URL"]

# Versions that are likely to be there, and some that are not.
VERSIONS = ["1", "1", "1", "2", "0", "-1", "4294967296", "live"]

DATATYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split()


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def metadata():
    """The metadata of each model that is in service, by name."""
    told = {}
    for name in ask("GET", "/v2/models")["models"]:
        try:
            told[name] = ask("GET", f"/v2/models/{name}")
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
    return told


def good(spec):
    """A tensor of one row that fits."""
    shape = [1 if length < 0 else length for length in spec["shape"]]
    count = 1
    for length in shape:
        count *= length
    value = {"BYTES": "web", "BOOL": True}.get(spec["datatype"], 1)
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": [value] * count}


def still_answers():
    models = metadata()
    assert models, "no model is in service"
    for name, told in models.items():
        try:
            answer = ask("POST", f"/v2/models/{name}/infer", {"inputs": [good(spec) for spec in told["inputs"]]})
            assert answer["outputs"], answer
        except urllib.error.HTTPError as error:
            # A contract may be stricter than the tensors' shapes.
            if error.code != 422:
                raise
        print(f"openapi: {name} answers", file=sys.stderr)



def register():
    import schemathesis
    from hypothesis import strategies as st

    models = metadata()
    names = sorted(models)
    # Taken out of service and back, so that the others go on answering.
    spare = "spare" if "spare" in names else names[-1]
    columns = sorted({spec["name"] for told in models.values() for spec in told["inputs"]})

    words = st.text(max_size=12)
    numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([0, 1, -1, 0.5, 1e308, 1e-320]))
    scalars = st.one_of(st.none(), st.booleans(), numbers, words, st.sampled_from(["web", "2024-03-01T10:00:00Z", "NaN", ""]))
    anything = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3), max_leaves=8
    )
    known = [name for name in columns if name != "input"] + ["order_id", "at", "price", "shop", "express", "returned"]

    def one_of(listed):
        return st.sampled_from(sorted(set(listed)))

    parameters = st.dictionaries(
        one_of(["timeout", "priority", "binary_data_output", "binary_data", "binary_data_size", "classification"]) | words,
        scalars,
        max_size=3,
    )
    lengths = st.lists(st.integers(0, 4) | st.sampled_from([-1, 2**31, 2**63, 2**64 - 1]), max_size=3)
    tensors = st.fixed_dictionaries(
        {
            "name": one_of(columns) | words,
            "datatype": st.sampled_from(DATATYPES) | words,
            "shape": lengths,
            "data": st.lists(scalars, max_size=6) | st.lists(st.lists(scalars, max_size=4), max_size=4) | anything,
        },
        optional={"parameters": parameters},
    )
    wanted = st.fixed_dictionaries(
        {"name": one_of(spec["name"] for told in models.values() for spec in told["outputs"]) | words},
        optional={"parameters": parameters},
    )
    whole = st.one_of([st.lists(tensors, max_size=3)] + [st.just([good(s) for s in models[name]["inputs"]]) for name in names])
    infer = st.fixed_dictionaries(
        {"inputs": whole},
        optional={"id": words, "parameters": parameters, "outputs": st.lists(wanted, max_size=3)},
    )
    rows = st.lists(st.dictionaries(one_of(known) | words, scalars, max_size=7), max_size=4)
    predict = st.fixed_dictionaries(
        {"rows": rows},
        optional={"options": st.fixed_dictionaries({}, optional={"deadline_ms": scalars, "priority": scalars})},
    )
    outcome = st.fixed_dictionaries(
        {"value": st.sampled_from([0, 1, True, "1"]) | anything},
        optional={
            "id": words | st.sampled_from(["0" * 32, "01890a5d-ac96-774b-bcce-b302099a8057"]),
            "key": scalars | st.sampled_from(["o1", "o7"]),
            "model": one_of(names) | words,
            "at": words | st.sampled_from(["2024-03-01T10:00:00Z", "9999-12-31T23:59:59Z", "-1000-01-01T00:00:00Z"]),
        },
    )
    outcomes = st.fixed_dictionaries({"outcomes": st.lists(outcome, max_size=4)})
    deed = st.fixed_dictionaries(
        {"action": st.sampled_from(["release", "rollback", "freeze", "thaw", "register"]) | words},
        optional={
            "version": st.integers(0, 4) | st.integers(),
            "how": st.sampled_from(["shadow", "now", "5%", "100%", "-1%", "1e9%", "NaN%"]) | words,
            "actor": words,
        },
    )
    bodies = {"/infer": infer, "/predict": predict, "/outcomes": outcomes, "/routing": deed}

    @schemathesis.hook
    def before_generate_body(context, strategy):
        made = next((made for end, made in bodies.items() if context.operation.path.endswith(end)), None)
        return strategy if made is None else st.one_of(strategy, made, made, made)

    @schemathesis.hook
    def map_path_parameters(context, values):
        """Three of four names are those of models; what was made stays what it is drawn from, for repeatability."""
        if not values:
            return values
        unload = context.operation.path.endswith(("/unload", "/load"))
        for name, value in list(values.items()):
            drawn = zlib.crc32(repr(value).encode())
            if drawn % 4 == 0:
                continue
            if name == "model":
                values[name] = spare if unload else names[drawn // 4 % len(names)]
            elif name == "version":
                values[name] = VERSIONS[drawn // 4 % len(VERSIONS)]
        if unload and values.get("model") != spare and values.get("model") in names:
            values["model"] = spare
        return values


if __name__ == "__main__":
    still_answers()
else:
    register()
