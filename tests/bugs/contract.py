"""Bugs of the OpenAPI document: what it says and the app does not, and the other way round."""

from tests.bugs import Mutant

OPENAPI, CONTRACT_TESTS = "cluster/gateway/openapi.py", "tests/unit/test_contract.py"
DOCUMENT = [
    Mutant(
        "a refusal that is heard stands in the document",
        "cluster/gateway/contract.py",
        '"paused", "drained", "expired", "not_addressee"',
        '"paused", "expired", "not_addressee"',
        ("tests/unit/test_http_refusals.py",),
    ),
    Mutant(
        "a bound in the document is the configured one",
        "cluster/gateway/schema_bounds.py",
        '"maxLength": limits.greeting_chars_max',
        '"maxLength": limits.greeting_chars_max + 1',
        (CONTRACT_TESTS,),
    ),
    Mutant(
        "an answer has no field that the document lacks",
        "cluster/gateway/operator/routes.py",
        '"tenant": body.tenant, "token": token}',
        '"tenant": body.tenant, "token": token, "scope": USER_SCOPE}',
        (CONTRACT_TESTS,),
    ),
    Mutant(
        "an operation says whose token opens it",
        OPENAPI,
        "for scope in scopes]",
        "for scope in scopes[:1]]",
        (CONTRACT_TESTS,),
    ),
    Mutant(
        "the pages show the document to nobody on the internet",
        "cluster/gateway/docs_page.py",
        "  validatorUrl: null,\n",
        "",
        (CONTRACT_TESTS,),
    ),
]
