import time, asyncio, asyncpg
from tests.conftest import fresh_database
def test_m(cluster):
    for _ in range(3):
        s=time.perf_counter()
        with fresh_database(cluster) as d:
            a=time.perf_counter()
            async def tr():
                c = await asyncpg.connect(d.dsn("loyalty_owner"))
                n = [r[0] for r in await c.fetch("select tablename from pg_tables where schemaname='ledger' and tablename not like '%migration%'")]
                print(n)
                for _ in range(3):
                    t=time.perf_counter()
                    await c.execute("ALTER TABLE ledger.entries DISABLE TRIGGER USER; TRUNCATE " + ", ".join(f"ledger.{x}" for x in n)+"; ALTER TABLE ledger.entries ENABLE TRIGGER USER")
                    print("truncate", time.perf_counter()-t, len(n))
                await c.close()
            asyncio.run(tr())
            b=time.perf_counter()
        print("create", a-s, "drop", time.perf_counter()-b)
