"""Bugs of shared bounds: whom one user, or one tenant, would crowd out."""

from tests.bugs import BATCHING, WALLET_MACHINE, Mutant

RULE, WALLET_PARTS, CACHE = "actors/kernel/quota.py", "actors/wallet/quotas.py", "cluster/fair_cache.py"
FILLED = ("tests/unit/test_owners.py",)
RULES = ("tests/unit/test_fair.py",)

SHARES = [
    Mutant("shares: a user has a part", RULE, 'return "user"\n', "pass\n", RULES),
    Mutant("shares: a tenant has a part", RULE, 'return "tenant" if', 'return "tenant" if False and', RULES),
    Mutant(
        "shares: what is over counts no more although nothing happens",
        RULE,
        "        while order and order[0][0] <= latest_ms:\n",
        "        while False:\n",
        RULES,
    ),
    Mutant(
        "shares: a restored stream knows who holds what",
        WALLET_MACHINE,
        "        self._holders = Holders(self._rules, self._state)\n",
        "        self._holders = Holders(self._rules, State())\n",
        FILLED,
    ),
    Mutant(
        "shares: a settled funding makes room",
        WALLET_PARTS,
        "            self._unsettled.remove(one.tenant, one.sender)\n",
        "            pass\n",
        ("tests/unit/test_wallet_machine.py",),
    ),
    Mutant(
        "shares: a queue has parts",
        BATCHING,
        "        self._held.add(*parcel.owner, parcel.size)\n",
        "        self._held.add(*parcel.owner, 0)\n",
        FILLED,
    ),
    Mutant(
        "shares: a cache lets go of its own tenant's oldest",
        CACHE,
        "self.drop(next(iter(entries)))",
        "self.drop(next(iter(self._used)))",
        FILLED,
    ),
]
