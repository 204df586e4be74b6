from tests.integration.test_zz_review import *
from tests.integration.test_zz_review import ROLL,P,R,sent,H,M,DAY
import tests.integration.test_zz_review as z
for k in [k for k in dir(z) if k.startswith("test_")]: globals().pop(k,None)

async def test_cool_off_exchange_service(open_shop):
    till,desk=await open_shop(ROLL%"cool_off: {period: P10D, applies_to: benefits}")
    S=DAY+timedelta(days=30); await till.advance(S); await till.enroll("m-1",DAY)
    await till.buy("m-1",40000,S-timedelta(days=20),"p")
    tok=await sent(till,P(40000,S,"q","x"),R(40000,S,"p","x"))
    s=await desk.standing("m-1",tok); print(s.tier,s.balance.minor_units,s.matured_balance.minor_units,s.benefits_tier_number,s.discount_basis_points)
    await desk.count(tok)
    for c in await desk.changes(): print(c.to_tier,c.from_benefits_tier_number,c.to_benefits_tier_number,pb.ChangeReason.Name(c.reason))
    assert s.benefits_tier_number==2

async def test_losing_within_with_waiting(open_shop):
    till,desk=await open_shop(ROLL%"")
    S=DAY+timedelta(days=30); await till.advance(S); await till.enroll("m-1",DAY)
    await till.buy("m-1",40000,S-timedelta(days=20),"p")
    tok=await sent(till,R(40000,S,"p","x"))
    a=await desk.listed(tok,losing_within_days=1); s=await desk.standing("m-1",tok)
    print([x.member_id for x in a.standings], s.next_change_time.ToDatetime(UTC), s.to_keep, pb.ChangeReason.Name(s.next_change_reason))
    assert [x.member_id for x in a.standings]==["m-1"]

async def test_two_currencies_exchange(open_shop):
    till,desk=await open_shop(ROLL%"")
    S=DAY+timedelta(days=65); await till.advance(S); await till.enroll("m-1",DAY)
    await sent(till,P(10000,S-timedelta(days=10),"p",cur="EUR"))  # 400 PLN at Feb rate
    tok=await sent(till,P(10000,S,"q","x",cur="EUR"),R(10000,S,"p","x",cur="EUR"))
    s=await desk.standing("m-1",tok); print(S,s.tier,s.balance.minor_units, s.since_time.ToDatetime(UTC))
    assert s.balance.minor_units==45000

async def test_void_sides(open_shop):
    till,desk=await open_shop(ROLL%"")
    S=DAY+timedelta(days=30); await till.advance(S); await till.enroll("m-1",DAY)
    await till.buy("m-1",40000,S-timedelta(days=20),"p")
    tok=await sent(till,P(40000,S,"q","x"),R(40000,S,"p","x"))
    tok=await till.void("m-1","q")
    s=await desk.standing("m-1",tok); print("void of bought side",s.tier,s.balance.minor_units)
    assert (s.tier,s.balance.minor_units)==("White",0)
    tok=await sent(till,P(40000,S,"q2","x"))
    s=await desk.standing("m-1",tok); print("bought again under the same id",s.tier,s.balance.minor_units)
    tok=await till.advance(S+H); s=await desk.standing("m-1",tok); print(s.tier)
    await desk.count(tok); print([c.to_tier for c in await desk.changes()])

async def test_backdated_second_side(open_shop):
    till,desk=await open_shop(ROLL%"")
    S=DAY+timedelta(days=30); await till.advance(S); await till.enroll("m-1",DAY)
    await till.buy("m-1",40000,S-timedelta(days=20),"p")
    await sent(till,R(40000,S,"p","x")); await till.advance(S+3*H)
    tok=await sent(till,P(40000,S+59*M,"q","x"))
    s=await desk.standing("m-1",tok); print(s.tier,s.since_time.ToDatetime(UTC))
    await desk.count(tok); print([(c.to_tier,c.corrects_sequence) for c in await desk.changes()])
    assert s.since_time.ToDatetime(UTC)==S-timedelta(days=20)
    assert (await desk.standing("m-1",tok,S+2*H)).tier=="Green"
    assert (await desk.standing("m-1",tok,S+2*H,S+2*H)).tier=="White"
    # one minute too late
    await till.advance(S+timedelta(days=1))
    X=S+timedelta(days=1)
    await sent(till,R(40000,X,"q","y")); await till.advance(X+3*H)
    tok=await sent(till,P(40000,X+H,"r","y"))
    s=await desk.standing("m-1",tok); print(s.tier,s.since_time.ToDatetime(UTC))

async def test_other_member_and_unlinked(open_shop):
    till,desk=await open_shop(ROLL%"")
    S=DAY+timedelta(days=30); await till.advance(S); await till.enroll("m-1",DAY); 
    await till.buy("m-1",40000,S-timedelta(days=20),"p")
    tok=await sent(till,R(40000,S,"","x"),P(35000,S,"q","x"))
    s=await desk.standing("m-1",tok); assert (s.tier,s.balance.minor_units)==("Green",35000)
    tok=await till.resign("m-1",S); 
    assert await refused(desk.standing("m-1",tok))==(grpc.StatusCode.FAILED_PRECONDITION,"NOT_ENROLLED")
    assert await refused(desk.standing("nobody",tok))==(grpc.StatusCode.NOT_FOUND,"MEMBER_UNKNOWN")
